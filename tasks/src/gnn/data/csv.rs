//! Fields of a line that may be quoted (RFC 4180), but may not go on in the next line.

use std::borrow::Cow;

use crate::data::{DataError, Line};

/// The fields between commas. In quotes a comma is none, and `""` is a quote.
pub(super) fn fields<'a>(line: &Line<'a>) -> Result<Vec<Cow<'a, str>>, DataError> {
    let mut fields = Vec::new();
    let mut rest = line.text;
    loop {
        let at = || line.text.len() - rest.len() + 1;
        let (field, after) = if let Some(quoted) = rest.strip_prefix('"') {
            let end = closing_quote(quoted)
                .ok_or_else(|| line.error_at(at(), "the quote is not closed in its line"))?;
            (Cow::Owned(quoted[..end].replace("\"\"", "\"")), &quoted[end + 1..])
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            (Cow::Borrowed(&rest[..end]), &rest[end..])
        };
        fields.push(field);
        if after.is_empty() {
            return Ok(fields);
        }
        let Some(next) = after.strip_prefix(',') else {
            return Err(line.error_at(at(), "something follows a closing quote"));
        };
        rest = next;
    }
}

/// Where the quote is that is not doubled.
fn closing_quote(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 0;
    loop {
        at += bytes[at..].iter().position(|&byte| byte == b'"')?;
        if bytes.get(at + 1) != Some(&b'"') {
            return Some(at);
        }
        at += 2;
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::fields;
    use crate::data::Lines;

    #[test]
    fn quotes_hide_commas_and_doubled_quotes_are_one() {
        let found = |text: &str| {
            let mut lines = Lines::of(Path::new("f"), text.as_bytes(), "fields");
            let line = lines.next_line().unwrap().unwrap();
            fields(&line).map(|fields| fields.join("|")).map_err(|error| error.to_string())
        };
        assert_eq!(found("1,a b,,x").unwrap(), "1|a b||x");
        assert_eq!(found(r#"1,"a, ""b""",x"#).unwrap(), r#"1|a, "b"|x"#);
        assert_eq!(found(r#""""","""#).unwrap(), r#""|"#);
        assert!(found(r#"1,"a,b"#).unwrap_err().starts_with("f:1:3: the quote is not closed"));
        assert!(found(r#"1,"a"b"#).unwrap_err().starts_with("f:1:3: something follows"));
    }
}

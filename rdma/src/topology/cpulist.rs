//! Lists of CPUs as the kernel writes them: `0-3,8,10-11`.

use std::fmt;
use std::str::FromStr;

/// No system has more CPUs; a longer list is a broken file.
const CPU_MAX: u32 = 1 << 16;

/// A sorted list of CPU numbers without duplicates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuList(Vec<u32>);

/// A text that is not a list of CPUs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a list of CPUs such as `0-3,8`")]
pub struct CpuListError(String);

impl CpuList {
    /// The CPUs, in rising order.
    #[must_use]
    pub fn as_slice(&self) -> &[u32] {
        &self.0
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `cpu` is one of them.
    #[must_use]
    pub fn contains(&self, cpu: u32) -> bool {
        self.0.binary_search(&cpu).is_ok()
    }
}

impl FromIterator<u32> for CpuList {
    fn from_iter<I: IntoIterator<Item = u32>>(cpus: I) -> Self {
        let mut cpus: Vec<u32> = cpus.into_iter().collect();
        cpus.sort_unstable();
        cpus.dedup();
        Self(cpus)
    }
}

impl FromStr for CpuList {
    type Err = CpuListError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let broken = || CpuListError(text.trim().to_owned());
        let number = |digits: &str| {
            digits.trim().parse::<u32>().ok().filter(|&cpu| cpu < CPU_MAX).ok_or_else(broken)
        };
        let mut cpus = Vec::new();
        for part in text.trim().split(',').filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return Err(broken());
            }
            cpus.extend(first..=last);
        }
        Ok(cpus.into_iter().collect())
    }
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_slice();
        let mut separator = "";
        while let Some(&first) = rest.first() {
            let run = rest.iter().zip(first..).take_while(|&(&cpu, next)| cpu == next).count();
            let last = rest[run - 1];
            match run {
                1 => write!(f, "{separator}{first}")?,
                _ => write!(f, "{separator}{first}-{last}")?,
            }
            separator = ",";
            rest = &rest[run..];
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::CpuList;

    #[test]
    fn lists_read_as_the_kernel_writes_them() {
        for text in ["0", "0-3", "0-3,8,10-11", ""] {
            assert_eq!(text.parse::<CpuList>().expect(text).to_string(), text);
        }
        let list: CpuList = "3,1-2,2\n".parse().expect("unsorted with a newline");
        assert_eq!(list.as_slice(), [1, 2, 3]);
        for text in ["a", "3-1", "1-", "99999999", "-1"] {
            assert!(text.parse::<CpuList>().is_err(), "{text}");
        }
    }
}

//! Curves and bars as SVG, drawn by hand: what all measurements share.

use std::fmt::Write as _;

/// Pixels of a panel, with room for its labels and names of curves.
pub(crate) const WIDTH: f64 = 560.0;
pub(crate) const HEIGHT: f64 = 320.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 130.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 44.0;
/// Pixels above the panels.
pub(crate) const TITLE: f64 = 40.0;

/// Told apart also by people who see red and green alike.
const COLOURS: [&str; 8] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999"];

/// A curve: its name and its points.
pub(crate) struct Curve {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// The share of `count` that is at most so large, from steps: the upper end of each, and how many are in it.
pub(crate) fn cumulated(name: String, steps: &[(f64, u64)], count: u64) -> Curve {
    let mut sum = 0.0;
    // Nothing was less than the first step, the square root of two below its end.
    let begin = steps.first().map(|step| (step.0 / std::f64::consts::SQRT_2, 0.0));
    let rest = steps.iter().map(|&(end, within)| {
        #[allow(clippy::cast_precision_loss, reason = "a drawing")]
        let share = within as f64 / count as f64;
        sum += share;
        (end, f64::min(sum, 1.0))
    });
    let points = begin.into_iter().chain(rest).collect();
    Curve { name, points }
}

/// An axis: from, to, and the base of its logarithm if it has one.
pub(crate) struct Axis {
    low: f64,
    high: f64,
    base: Option<f64>,
}

impl Axis {
    /// An axis of powers of `base` that holds all of `values`.
    pub(crate) fn log(values: impl Iterator<Item = f64> + Clone, base: f64) -> Self {
        let least = values.clone().fold(f64::INFINITY, f64::min);
        let high = values.fold(0.0, f64::max);
        // The small additions keep what lies on a power within rounding there.
        let low = base.powf((least.log(base) + 1e-9).floor());
        let high = base.powf((high.log(base) - 1e-9).ceil()).max(low * base);
        Self { low, high, base: Some(base) }
    }

    /// From `low` to `high`.
    pub(crate) fn linear(low: f64, high: f64) -> Self {
        Self { low, high: if high > low { high } else { low + 1.0 }, base: None }
    }

    /// From zero to a round number that no value is above.
    pub(crate) fn from_zero(values: impl Iterator<Item = f64>) -> Self {
        let high = values.fold(0.0, f64::max);
        if high <= 0.0 {
            return Self::linear(0.0, 1.0);
        }
        let power = 10_f64.powf(high.log10().floor());
        let steps = [1.0, 1.2, 1.6, 2.0, 2.4, 3.2, 4.0, 6.0, 8.0, 10.0];
        let step = steps.into_iter().find(|step| step * power >= high * (1.0 - 1e-9));
        Self::linear(0.0, step.unwrap_or(10.0) * power)
    }

    /// Where a value lies, from 0 to 1.
    fn place(&self, value: f64) -> f64 {
        if self.base.is_some() {
            (value / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        }
    }

    fn ticks(&self) -> Vec<f64> {
        match self.base {
            None => {
                (0..=4).map(|n| self.low + (self.high - self.low) * f64::from(n) / 4.0).collect()
            }
            Some(base) => {
                let powers = (0..64).map(|n| self.low * base.powi(n));
                powers.take_while(|&tick| tick <= self.high * 1.001).collect()
            }
        }
    }
}

/// The beginning of a drawing of `columns` x `rows` panels; `</svg>` ends it.
pub(crate) fn begin(columns: u32, rows: u32, title: &str, notes: &str) -> String {
    let (width, height) =
        (f64::from(columns.max(1)) * WIDTH, TITLE + HEIGHT * f64::from(rows.max(1)));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"16\" y=\"16\" font-size=\"12\">{}</text>\n\
         <text x=\"16\" y=\"32\">{}</text>\n",
        escaped(title),
        escaped(notes)
    )
}

/// The inner rectangle of a panel whose corner is at (left, top): left, right, bottom, top.
fn inner(corner: (f64, f64)) -> [f64; 4] {
    let (left, top) = corner;
    [left + LEFT, left + WIDTH - RIGHT, top + HEIGHT - BOTTOM, top + TOP]
}

/// Title, horizontal lines and their numbers.
fn frame(out: &mut String, corner: (f64, f64), title: &str, vertical: &Axis) {
    let [x0, x1, y0, y1] = inner(corner);
    let _ = writeln!(out, "<text x=\"{x0:.1}\" y=\"{:.1}\">{}</text>", y1 - 8.0, escaped(title));
    for tick in vertical.ticks() {
        let at = y0 - (y0 - y1) * vertical.place(tick);
        let _ = writeln!(
            out,
            "<path d=\"M{x0:.1} {at:.1}H{x1:.1}\" stroke=\"#ddd\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            x0 - 6.0,
            at + 4.0,
            rounded(tick)
        );
    }
    let _ = writeln!(
        out,
        "<path d=\"M{x0:.1} {y1:.1}V{y0:.1}H{x1:.1}\" fill=\"none\" stroke=\"black\"/>"
    );
}

/// A number without what rounding left behind.
fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

/// Axes, names and curves of a panel whose corner is at `corner`; nothing if there are no points.
pub(crate) fn panel(
    out: &mut String,
    corner: (f64, f64),
    title: &str,
    curves: &[Curve],
    (horizontal, vertical): (&Axis, &Axis),
) {
    if curves.iter().all(|curve| curve.points.is_empty()) {
        return;
    }
    let [x0, x1, y0, y1] = inner(corner);
    let x = |value: f64| x0 + (x1 - x0) * horizontal.place(value);
    let y = |value: f64| y0 - (y0 - y1) * vertical.place(value);
    frame(out, corner, title, vertical);
    for tick in horizontal.ticks() {
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            x(tick),
            y0 + 16.0,
            rounded(tick)
        );
    }
    for (curve, at) in curves.iter().zip(0_u32..) {
        let colour = colour(at);
        let mut path = String::new();
        for (index, &(h, v)) in curve.points.iter().enumerate() {
            let _ = write!(path, "{}{:.1} {:.1}", if index == 0 { 'M' } else { 'L' }, x(h), y(v));
        }
        // Beyond the number of colours, curves are dashed.
        let dash = if at < 8 { "" } else { " stroke-dasharray=\"4 2\"" };
        let name = y1 + 8.0 + 14.0 * f64::from(at);
        let _ = writeln!(
            out,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\"{dash}/>\
             <path d=\"M{:.1} {:.1}h14\" stroke=\"{colour}\" stroke-width=\"2\"{dash}/><text x=\"{:.1}\" y=\"{name:.1}\">{}</text>",
            x1 + 8.0,
            name - 4.0,
            x1 + 26.0,
            escaped(&curve.name)
        );
    }
}

/// Bars from zero with their names below and, as lines, the least and the greatest of what each stands for; `(name, least, bar, greatest)`.
pub(crate) fn bars(
    out: &mut String,
    corner: (f64, f64),
    title: &str,
    bars: &[(String, f64, f64, f64)],
) {
    let vertical = Axis::from_zero(bars.iter().map(|bar| bar.3));
    let [x0, x1, y0, y1] = inner(corner);
    frame(out, corner, title, &vertical);
    let y = |value: f64| y0 - (y0 - y1) * vertical.place(value);
    let count = u32::try_from(bars.len()).unwrap_or(u32::MAX).max(1);
    // Names may stand out to the right of the last bar.
    let step = (x1 - x0) / f64::from(count);
    for ((name, least, value, greatest), at) in bars.iter().zip(0_u32..) {
        let left = x0 + step * (f64::from(at) + 0.2);
        let middle = left + step * 0.3;
        let _ = writeln!(
            out,
            "<rect x=\"{left:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{}\"><title>{}: {value:.3}</title></rect>\
             <path d=\"M{middle:.1} {:.1}V{:.1}\" stroke=\"black\"/>\
             <text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{value:.2}</text>\
             <text transform=\"translate({:.1} {:.1}) rotate(12)\" font-size=\"10\">{}</text>",
            y(*value),
            step * 0.6,
            y0 - y(*value),
            colour(at),
            escaped(name),
            y(*least),
            y(*greatest),
            y(*greatest) - 4.0,
            left,
            y0 + 14.0,
            escaped(name)
        );
    }
}

fn colour(index: u32) -> &'static str {
    COLOURS.iter().cycle().nth(index as usize).expect("a cycle has no end")
}

/// Text as it may stand in XML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_covers_its_values_with_whole_powers() {
        let axis = Axis::log([0.3, 25.0].into_iter(), 10.0);
        assert!((axis.low - 0.1).abs() < 1e-9 && (axis.high - 100.0).abs() < 1e-9);
        assert_eq!(axis.ticks().len(), 4);
        assert!((axis.place(1.0) - 1.0 / 3.0).abs() < 1e-9);
        let one = Axis::log([64.0].into_iter(), 2.0);
        assert!(one.high > one.low);
    }

    #[test]
    fn an_axis_from_zero_ends_at_a_round_number_above_all() {
        for (greatest, end) in [(0.0, 1.0), (0.97, 1.0), (1.01, 1.2), (73.0, 80.0), (100.0, 100.0)]
        {
            let axis = Axis::from_zero([0.1, greatest].into_iter().filter(|_| greatest > 0.0));
            assert!((axis.high - end).abs() < 1e-9, "{greatest}: {}", axis.high);
        }
    }

    #[test]
    fn every_bar_has_its_name_and_value() {
        let mut out = String::new();
        let given = [("a<b".to_owned(), 1.0, 1.5, 2.0), ("none".to_owned(), 0.0, 0.0, 0.0)];
        bars(&mut out, (0.0, 0.0), "seconds", &given);
        assert_eq!(out.matches("<rect").count(), 2);
        assert!(out.contains("a&lt;b: 1.500") && !out.contains("NaN"), "{out}");
    }
}

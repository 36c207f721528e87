//! The figures as SVG: for each provider the distributions of single operations at the lowest depth, and rates by size.

use std::fmt::Write as _;

use super::Measured;
use super::cell::{Cell, Operation};

/// Pixels of a panel, with room for its labels and names of curves.
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 130.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 44.0;
/// Pixels above the panels.
const TITLE: f64 = 40.0;

/// Told apart also by people who see red and green alike.
const COLOURS: [&str; 8] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999"];

/// A curve: its name and its points.
struct Curve {
    name: String,
    points: Vec<(f64, f64)>,
}

/// An axis: from, to, and whether it is logarithmic.
struct Axis {
    low: f64,
    high: f64,
    log: bool,
}

impl Axis {
    /// An axis of powers of `base` that holds all of `values`.
    fn log(values: impl Iterator<Item = f64> + Clone, base: f64) -> Self {
        let low = values.clone().fold(f64::INFINITY, f64::min);
        let high = values.fold(0.0, f64::max);
        // The small additions keep what lies on a power within rounding there.
        let low = base.powf((low.log(base) + 1e-9).floor());
        Self { low, high: base.powf((high.log(base) - 1e-9).ceil()).max(low * base), log: true }
    }

    /// Where a value lies, from 0 to 1.
    fn place(&self, value: f64) -> f64 {
        if self.log {
            (value / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        }
    }

    fn ticks(&self, base: f64) -> Vec<f64> {
        if !self.log {
            return (0..=4)
                .map(|n| self.low + (self.high - self.low) * f64::from(n) / 4.0)
                .collect();
        }
        let powers = (0..64).map(|n| self.low * base.powi(n));
        powers.take_while(|&tick| tick <= self.high * 1.001).collect()
    }
}

/// Draws all that was measured.
pub(super) fn svg(measured: &Measured) -> String {
    let mut providers: Vec<&str> = measured.cells.iter().map(|cell| cell.provider).collect();
    providers.dedup();
    let rows = u32::try_from(providers.len()).unwrap_or(0);
    let (width, height) = (2.0 * WIDTH, TITLE + HEIGHT * f64::from(rows.max(1)));
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"16\" y=\"16\" font-size=\"12\">sterna bench fabric: {}</text>\n\
         <text x=\"16\" y=\"32\">{}</text>\n",
        escaped(&measured.machine),
        escaped(&measured.notes.join("; "))
    );
    for (row, provider) in (0_u32..).zip(providers) {
        let cells = || measured.cells.iter().filter(move |cell| cell.provider == provider);
        let top = TITLE + HEIGHT * f64::from(row);
        let shallow = cells().map(|cell| cell.depth).filter(|&depth| depth > 0).min();
        let single: Vec<Curve> = cells()
            .filter(|cell| Some(cell.depth) == shallow && !cell.histogram.is_empty())
            .map(cumulated)
            .collect();
        let share = Axis { low: 0.0, high: 1.0, log: false };
        let title = format!("{provider}: share of operations that took at most so many us");
        panel(&mut out, (0.0, top), &title, &single, (&share, 10.0));
        let rates = rates(cells());
        let values = rates.iter().flat_map(|curve| curve.points.iter().map(|point| point.1));
        let axis = Axis::log(values, 10.0);
        let title = format!("{provider}: MB/s by bytes of an operation");
        panel(&mut out, (WIDTH, top), &title, &rates, (&axis, 4.0));
    }
    out.push_str("</svg>\n");
    out
}

/// A cell's distribution.
fn cumulated(cell: &Cell) -> Curve {
    let mut sum = 0.0;
    // Nothing took less than the first step, the square root of two below its end.
    let begin = cell.histogram.first().map(|step| (step.0 / std::f64::consts::SQRT_2, 0.0));
    let steps = cell.histogram.iter().map(|&(end_us, operations)| {
        #[allow(clippy::cast_precision_loss, reason = "a drawing")]
        let share = operations as f64 / cell.spread.count as f64;
        sum += share;
        (end_us, f64::min(sum, 1.0))
    });
    let points = begin.into_iter().chain(steps).collect();
    Curve { name: format!("{} {} B", cell.operation.name(), cell.bytes), points }
}

/// MB/s by size, for each operation and depth.
fn rates<'a>(cells: impl Iterator<Item = &'a Cell>) -> Vec<Curve> {
    let mut curves: Vec<Curve> = Vec::new();
    for cell in cells {
        let name = match cell.operation {
            Operation::Stream => "stream".to_owned(),
            other => format!("{} x{}", other.name(), cell.depth),
        };
        #[allow(clippy::cast_precision_loss, reason = "a drawing")]
        let point = (cell.bytes as f64, cell.spread.megabytes_per_second);
        // A logarithm of nothing has no place.
        if point.1 <= 0.0 {
            continue;
        }
        match curves.iter_mut().find(|curve| curve.name == name) {
            Some(curve) => curve.points.push(point),
            None => curves.push(Curve { name, points: vec![point] }),
        }
    }
    for curve in &mut curves {
        curve.points.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    curves
}

/// Axes, names and curves of a panel whose corner is at `corner`; `vertical` and the base of the horizontal axis, which is logarithmic.
fn panel(out: &mut String, corner: (f64, f64), title: &str, curves: &[Curve], axes: (&Axis, f64)) {
    let (vertical, base) = axes;
    let values = curves.iter().flat_map(|curve| curve.points.iter().map(|point| point.0));
    if values.clone().next().is_none() {
        return;
    }
    let horizontal = Axis::log(values, base);
    let (left, top) = corner;
    let (wide, high) = (WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
    let x = |value: f64| left + LEFT + wide * horizontal.place(value);
    let y = |value: f64| top + TOP + high * (1.0 - vertical.place(value));
    let (x0, x1, y0, y1) = (left + LEFT, left + LEFT + wide, top + TOP + high, top + TOP);
    let _ = writeln!(out, "<text x=\"{x0:.1}\" y=\"{:.1}\">{}</text>", y1 - 8.0, escaped(title));
    for tick in vertical.ticks(10.0) {
        let at = y(tick);
        let _ = writeln!(
            out,
            "<path d=\"M{x0:.1} {at:.1}H{x1:.1}\" stroke=\"#ddd\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{tick}</text>",
            x0 - 6.0,
            at + 4.0
        );
    }
    for tick in horizontal.ticks(base) {
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            x(tick),
            y0 + 16.0,
            // What rounding left behind is cut off.
            (tick * 1e6).round() / 1e6
        );
    }
    let _ = writeln!(
        out,
        "<path d=\"M{x0:.1} {y1:.1}V{y0:.1}H{x1:.1}\" fill=\"none\" stroke=\"black\"/>"
    );
    for (curve, (colour, at)) in curves.iter().zip(COLOURS.iter().cycle().zip(0_u32..)) {
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

/// Text as it may stand in XML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::Times;
    use std::time::{Duration, Instant};

    #[test]
    fn every_provider_has_two_panels_and_each_curve_a_name() {
        let mut times = Times::new();
        for _ in 0..10 {
            times.record(Instant::now(), 1);
        }
        times.moved(5120, Duration::from_millis(1));
        let cell = |provider, operation, bytes, depth| {
            Cell::new(provider, operation, bytes, depth, &times, None)
        };
        let cells = vec![
            cell("shm", Operation::Read, 64, 1),
            cell("shm", Operation::Read, 512, 1),
            cell("shm", Operation::Stream, 64, 0),
            cell("tcp", Operation::Record, 64, 16),
        ];
        let measured = Measured { version: "0", machine: "a <b> & c".into(), notes: vec![], cells };
        let svg = svg(&measured);
        for name in ["shm: share", "tcp: MB/s", "READ 512 B", "READ x1", "stream", "record x16"] {
            assert!(svg.contains(name), "{name}: {svg}");
        }
        assert!(
            svg.contains("a &lt;b&gt; &amp; c") && !svg.contains("NaN") && !svg.contains("inf")
        );
        assert_eq!(svg.matches("stroke-width=\"1.6\"").count(), 6, "{svg}");
    }

    #[test]
    fn an_axis_covers_its_values_with_whole_powers() {
        let axis = Axis::log([0.3, 25.0].into_iter(), 10.0);
        assert!((axis.low - 0.1).abs() < 1e-9 && (axis.high - 100.0).abs() < 1e-9);
        assert_eq!(axis.ticks(10.0).len(), 4);
        assert!((axis.place(1.0) - 1.0 / 3.0).abs() < 1e-9);
        let one = Axis::log([64.0].into_iter(), 2.0);
        assert!(one.high > one.low);
    }
}

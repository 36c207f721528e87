//! The figures as SVG: for each network and number of nodes the time per epoch by policy, and quality over time.

use super::outcome::{Cell, Group, Measured};
use crate::plot::{self, Axis, Curve, HEIGHT, TITLE, WIDTH};

/// Draws all that was measured.
pub(super) fn svg(measured: &Measured) -> String {
    let groups = measured.groups();
    let rows = u32::try_from(groups.len()).unwrap_or(0);
    let notes = "bars: median over epochs and rounds, lines from least to greatest; curves: the first round, over seconds of training";
    let mut out = plot::begin(2, rows, &measured.title(), notes);
    for (row, group) in (0_u32..).zip(&groups) {
        let top = TITLE + HEIGHT * f64::from(row);
        let cells = || group.single.into_iter().chain(group.cells.iter().copied());
        let bars: Vec<_> = cells()
            .map(|cell| {
                let [least, median, greatest] = cell.epoch_seconds();
                (cell.name(), least, median, greatest)
            })
            .collect();
        plot::bars(&mut out, (0.0, top), &format!("{}: s per epoch", group.title), &bars);
        quality(&mut out, (WIDTH, top), group, &cells().map(curve).collect::<Vec<_>>());
    }
    out.push_str("</svg>\n");
    out
}

/// The validations of a cell's first round.
fn curve(cell: &Cell) -> Curve {
    let points = cell.runs.first().into_iter().flat_map(|run| {
        let point = |at: &sterna_tasks::report::Validation| {
            Some((at.seconds, *at.quality.get(&run.goal)?)).filter(|point| point.1.is_finite())
        };
        run.validations.iter().filter_map(point)
    });
    Curve { name: cell.name(), points: points.collect() }
}

fn quality(out: &mut String, corner: (f64, f64), group: &Group<'_>, curves: &[Curve]) {
    let values = || curves.iter().flat_map(|curve| curve.points.iter().map(|point| point.1));
    let (low, high) = values().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    let margin = 0.05 * (high - low).max(1e-6);
    let seconds = curves.iter().flat_map(|curve| curve.points.iter().map(|point| point.0));
    let axes = (&Axis::from_zero(seconds), &Axis::linear(low - margin, high + margin));
    let goal = group.cells.first().and_then(|cell| cell.runs.first());
    let goal = goal.map_or("quality", |run| run.goal.as_str());
    let title = format!("{}: {goal} over seconds of training", group.title);
    plot::panel(out, corner, &title, curves, axes);
}

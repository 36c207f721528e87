//! The figures as SVG: for each provider the distributions of single operations at the lowest depth, and rates by size.

use super::Measured;
use super::cell::{Cell, Operation};
use crate::plot::{self, Axis, Curve, HEIGHT, TITLE, WIDTH};

/// Draws all that was measured.
pub(super) fn svg(measured: &Measured) -> String {
    let mut providers: Vec<&str> = measured.cells.iter().map(|cell| cell.provider).collect();
    providers.dedup();
    let rows = u32::try_from(providers.len()).unwrap_or(0);
    let title = format!("sterna bench fabric: {}", measured.machine);
    let mut out = plot::begin(2, rows, &title, &measured.notes.join("; "));
    for (row, provider) in (0_u32..).zip(providers) {
        let cells = || measured.cells.iter().filter(move |cell| cell.provider == provider);
        let top = TITLE + HEIGHT * f64::from(row);
        let shallow = cells().map(|cell| cell.depth).filter(|&depth| depth > 0).min();
        let single: Vec<Curve> = cells()
            .filter(|cell| Some(cell.depth) == shallow && !cell.histogram.is_empty())
            .map(cumulated)
            .collect();
        let share = Axis::linear(0.0, 1.0);
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
    let name = format!("{} {} B", cell.operation.name(), cell.bytes);
    plot::cumulated(name, &cell.histogram, cell.spread.count)
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

/// A panel whose horizontal axis has powers of `base`.
fn panel(out: &mut String, corner: (f64, f64), title: &str, curves: &[Curve], axes: (&Axis, f64)) {
    let values = curves.iter().flat_map(|curve| curve.points.iter().map(|point| point.0));
    if values.clone().next().is_none() {
        return;
    }
    plot::panel(out, corner, title, curves, (&Axis::log(values, axes.1), axes.0));
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
        let measured = Measured {
            version: "0",
            machine: "a <b> & c".into(),
            notes: vec![],
            cells,
            batches: vec![],
        };
        let svg = svg(&measured);
        for name in ["shm: share", "tcp: MB/s", "READ 512 B", "READ x1", "stream", "record x16"] {
            assert!(svg.contains(name), "{name}: {svg}");
        }
        assert!(
            svg.contains("a &lt;b&gt; &amp; c") && !svg.contains("NaN") && !svg.contains("inf")
        );
        assert_eq!(svg.matches("stroke-width=\"1.6\"").count(), 6, "{svg}");
    }
}

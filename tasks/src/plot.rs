//! Learning curves as SVG: the loss and the validation figure over epochs.

use std::fmt::Write as _;

use crate::report::Report;

/// Pixels of a panel, with room for its labels.
const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 44.0;
/// About so many ticks on an axis.
const TICKS: f64 = 5.0;

/// One curve: its name and points of (epoch, figure).
struct Curve {
    name: String,
    points: Vec<(f64, f64)>,
}

/// Draws a run's curves side by side: mean loss by epoch, and the goal's figure by validation if
/// there was any.
#[must_use]
pub fn svg(report: &Report) -> String {
    let loss = (1..).zip(&report.loss).map(|(epoch, &loss)| (f64::from(epoch), loss));
    let mut curves = vec![Curve { name: "loss".into(), points: loss.collect() }];
    let validations = report.validations.iter().filter_map(|validation| {
        Some((f64::from(validation.epoch), *validation.quality.get(&report.goal)?))
    });
    let name = format!("validation {}", report.goal);
    curves.push(Curve { name, points: validations.collect() });
    curves.retain_mut(|curve| {
        curve.points.retain(|point| point.1.is_finite());
        !curve.points.is_empty()
    });
    let title = format!(
        "{} on {}, {} node(s) x {} worker(s), seed {}",
        report.model, report.dataset, report.nodes, report.workers, report.seed
    );
    let panels = curves.len().max(1);
    #[expect(clippy::cast_precision_loss, reason = "two panels")]
    let width = WIDTH * panels as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {HEIGHT}\" width=\"{width}\" \
         height=\"{HEIGHT}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"16\" font-size=\"13\">{}</text>\n",
        escaped(&title)
    );
    let mut left = 0.0;
    for curve in &curves {
        panel(&mut out, curve, left);
        left += WIDTH;
    }
    out.push_str("</svg>\n");
    out
}

fn panel(out: &mut String, curve: &Curve, left: f64) {
    let last = curve.points.iter().map(|point| point.0).fold(1.0, f64::max);
    let figures = || curve.points.iter().map(|point| point.1);
    let (low, high) =
        (figures().fold(f64::INFINITY, f64::min), figures().fold(f64::NEG_INFINITY, f64::max));
    // A curve that does not move still needs a height.
    let margin = if high > low { 0.05 * (high - low) } else { 0.05 * high.abs().max(1.0) };
    let (low, high) = (low - margin, high + margin);
    let x = |epoch: f64| left + LEFT + (WIDTH - LEFT - RIGHT) * epoch / last;
    let y = |figure: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (figure - low) / (high - low);
    let (x0, x1, y0, y1) = (x(0.0), x(last), HEIGHT - BOTTOM, TOP);
    for figure in ticks(low, high) {
        let at = y(figure);
        line(
            out,
            &format!(
                "<path d=\"M{x0:.1} {at:.1}H{x1:.1}\" stroke=\"#ddd\"/><text x=\"{:.1}\" y=\"{:.1}\" \
             text-anchor=\"end\">{}</text>",
                x0 - 6.0,
                at + 4.0,
                shortest(figure)
            ),
        );
    }
    for epoch in ticks(0.0, last).filter(|epoch| epoch.fract() == 0.0) {
        line(
            out,
            &format!(
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{epoch}</text>",
                x(epoch),
                y0 + 16.0
            ),
        );
    }
    line(
        out,
        &format!("<path d=\"M{x0:.1} {y1:.1}V{y0:.1}H{x1:.1}\" fill=\"none\" stroke=\"black\"/>"),
    );
    let mut path = String::new();
    for (index, &(epoch, figure)) in curve.points.iter().enumerate() {
        let step = if index == 0 { 'M' } else { 'L' };
        let _ = write!(path, "{step}{:.1} {:.1}", x(epoch), y(figure));
    }
    line(
        out,
        &format!("<path d=\"{path}\" fill=\"none\" stroke=\"#1f6fb4\" stroke-width=\"1.8\"/>"),
    );
    for &(epoch, figure) in &curve.points {
        line(
            out,
            &format!(
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"2\" fill=\"#1f6fb4\"><title>epoch {epoch}: {figure}</title></circle>",
                x(epoch),
                y(figure)
            ),
        );
    }
    line(
        out,
        &format!("<text x=\"{x0:.1}\" y=\"{:.1}\">{}</text>", TOP - 8.0, escaped(&curve.name)),
    );
    line(
        out,
        &format!("<text x=\"{x1:.1}\" y=\"{:.1}\" text-anchor=\"end\">epoch</text>", HEIGHT - 8.0),
    );
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

/// Round numbers in `low..=high`, about [`TICKS`] of them.
fn ticks(low: f64, high: f64) -> impl Iterator<Item = f64> {
    let rough = (high - low) / TICKS;
    let power = 10_f64.powf(rough.log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].into_iter().find(|m| m * power >= rough).unwrap_or(10.0) * power;
    let first = (low / step).ceil();
    // A handful by construction; the bound is for figures that defeat the arithmetic.
    (0..20).map(move |n| (first + f64::from(n)) * step).take_while(move |&tick| tick <= high)
}

/// A tick's label, without what rounding left behind.
fn shortest(figure: f64) -> String {
    let text = format!("{figure:.6}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text.is_empty() || text == "-0" { "0".into() } else { text.into() }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::{svg, ticks};
    use crate::report::{Report, Validation};

    fn report() -> Report {
        let validation = |epoch, mrr| Validation {
            epoch,
            seconds: 1.0,
            quality: [("mrr".to_owned(), mrr)].into(),
        };
        Report {
            model: "a<b".into(),
            goal: "mrr".into(),
            loss: vec![3.0, 2.0, f64::NAN, 1.5],
            validations: vec![validation(2, 0.1), validation(4, 0.3)],
            ..Report::default()
        }
    }

    #[test]
    fn both_curves_are_drawn_with_a_point_for_each_finite_figure() {
        let drawn = svg(&report());
        assert_eq!(drawn.matches("<circle").count(), 5);
        assert!(drawn.contains("validation mrr") && drawn.contains(">loss<"));
        assert!(drawn.contains("a&lt;b"));
        assert!(!drawn.contains("NaN"));
        assert_eq!(drawn.matches("<svg").count(), drawn.matches("</svg>").count());
    }

    #[test]
    fn a_run_without_figures_still_gives_a_drawing() {
        let drawn = svg(&Report::default());
        assert!(drawn.starts_with("<svg") && drawn.ends_with("</svg>\n"));
    }

    #[test]
    fn ticks_are_round_and_within() {
        let found: Vec<f64> = ticks(0.13, 0.61).collect();
        assert_eq!(found.len(), 5, "{found:?}");
        for (found, expected) in found.into_iter().zip([0.2, 0.3, 0.4, 0.5, 0.6]) {
            assert!((found - expected).abs() < 1e-12);
        }
        assert_eq!(ticks(0.0, 30.0).count(), 4);
    }
}

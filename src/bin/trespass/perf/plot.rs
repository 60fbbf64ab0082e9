//! A sweep as a picture: SVG, by crates that need nothing but Rust.

use plotters::prelude::*;

use super::report::Row;

type Failed = DrawingAreaErrorKind<std::io::Error>;

/// One curve.
struct Curve {
    name: &'static str,
    color: RGBColor,
    points: Vec<(f64, f64)>,
}

/// The picture of what was measured over all sizes: times where there are any, else bandwidth.
///
/// # Errors
/// What the plotting crate says.
pub(crate) fn svg(title: &str, rows: &[Row]) -> Result<String, String> {
    let latency = rows.iter().any(|row| row.latency().is_some());
    let (unit, curves) = match latency {
        true => (
            "µs",
            vec![
                curve("t_typical", BLUE, rows, |row| row.latency().map(|latency| latency.typical)),
                curve("99 %", RED, rows, |row| row.latency().map(|latency| latency.p99)),
            ],
        ),
        false => (
            "MiB/s",
            vec![
                curve("average", BLUE, rows, |row| Some(row.bandwidth().mib())),
                curve("peak", RED, rows, |row| Some(row.bandwidth().peak_mib())),
            ],
        ),
    };
    let mut text = String::new();
    draw(&mut text, title, unit, &curves).map_err(|error| error.to_string())?;
    Ok(text)
}

fn curve(name: &'static str, color: RGBColor, rows: &[Row], of: impl Fn(&Row) -> Option<f64>) -> Curve {
    // Both axes are logarithmic: nothing on them is 0.
    let points = rows.iter().filter_map(|row| Some((row.size() as f64, of(row)?.max(1e-6)))).collect();
    Curve { name, color, points }
}

fn draw(text: &mut String, title: &str, unit: &str, curves: &[Curve]) -> Result<(), Failed> {
    let root = SVGBackend::with_string(text, (900, 600)).into_drawing_area();
    root.fill(&WHITE)?;
    let all = || curves.iter().flat_map(|curve| &curve.points);
    let span = |of: fn(&(f64, f64)) -> f64| {
        let (least, most) = all().map(of).fold((f64::MAX, f64::MIN), |(a, b), value| (a.min(value), b.max(value)));
        // Of one size, or none, a span that has some width.
        if least < most { least * 0.9..most * 1.1 } else { least.min(1e6) * 0.5..most.max(1e-3) * 2.0 }
    };
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 24))
        .margin(16)
        .x_label_area_size(50)
        .y_label_area_size(90)
        .build_cartesian_2d(span(|point| point.0).log_scale().base(2.0), span(|point| point.1).log_scale())?;
    chart
        .configure_mesh()
        .label_style(("sans-serif", 16))
        .axis_desc_style(("sans-serif", 18))
        .x_desc("bytes")
        .y_desc(unit)
        .x_label_formatter(&|bytes| size(*bytes))
        .y_label_formatter(&|value| format!("{value:.4}").trim_end_matches('0').trim_end_matches('.').to_owned())
        .draw()?;
    for Curve { name, color, points } in curves {
        let style = color.stroke_width(2);
        let line = LineSeries::new(points.iter().copied(), style).point_size(3);
        let legend = *color;
        chart.draw_series(line)?.label(*name).legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], legend));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .label_font(("sans-serif", 16))
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .draw()?;
    root.present()
}

/// A number of bytes, short.
fn size(bytes: f64) -> String {
    match bytes {
        _ if bytes >= 1048576.0 => format!("{}M", bytes / 1048576.0),
        _ if bytes >= 1024.0 => format!("{}K", bytes / 1024.0),
        _ => format!("{bytes}"),
    }
}

//! Small charts of a series beside each other, as one SVG.

use std::fmt::Write;

use crate::series::Series;

const WIDTH: f64 = 440.0;
const HEIGHT: f64 = 170.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 24.0;
const COLOURS: [&str; 7] = ["#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#0891b2", "#64748b"];

/// Columns of one chart, each with the name that it is shown by.
pub struct Chart {
    pub title: &'static str,
    pub lines: &'static [(&'static str, &'static str)],
    /// Powers of ten up the side.
    pub logarithmic: bool,
}

/// Two charts in a row, all with the same time.
pub fn svg(series: &Series, heading: &str, charts: &[Chart]) -> String {
    let rows = charts.len().div_ceil(2);
    let (width, height) = (2.0 * WIDTH, 34.0 + HEIGHT * rows as f64);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"11\" fill=\"#334155\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"12\" y=\"22\" font-size=\"13\">{heading}</text>\n"
    );
    for (place, chart) in charts.iter().enumerate() {
        let (x, y) = ((place % 2) as f64 * WIDTH, 34.0 + (place / 2) as f64 * HEIGHT);
        let _ = writeln!(svg, "<g transform=\"translate({x} {y})\">\n{}</g>", drawn(series, chart));
    }
    svg + "</svg>\n"
}

fn drawn(series: &Series, chart: &Chart) -> String {
    let all: Vec<Vec<(f64, f64)>> = chart.lines.iter().map(|(name, _)| series.points(name)).collect();
    let values = || all.iter().flatten().map(|(_, value)| *value);
    let scale = Scale::of(values(), chart.logarithmic);
    let until = all.iter().flatten().map(|(time, _)| *time).fold(1.0, f64::max);
    let across = |time: f64| LEFT + (WIDTH - LEFT - RIGHT) * time / until;
    let up = |value: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * scale.part(value);

    let mut text = format!("<text x=\"12\" y=\"14\" font-weight=\"bold\">{}</text>\n", chart.title);
    let mut at = LEFT;
    for ((_, shown), colour) in chart.lines.iter().zip(COLOURS) {
        let _ = write!(
            text,
            "<rect x=\"{at}\" y=\"21\" width=\"9\" height=\"9\" fill=\"{colour}\"/><text x=\"{}\" y=\"29\">{shown}</text>",
            at + 12.0
        );
        at += 26.0 + 6.4 * shown.len() as f64;
    }
    for mark in scale.marks() {
        let y = up(mark);
        let _ = write!(
            text,
            "<path d=\"M{LEFT} {y:.1}H{}\" stroke=\"#e2e8f0\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 5.0,
            y + 4.0,
            short(mark)
        );
    }
    let minutes = until / 60.0;
    let step = [0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0].into_iter().find(|step| minutes / step <= 8.0);
    let step = step.unwrap_or((minutes / 6.0).ceil());
    for mark in (0..).map(|n| n as f64 * step).take_while(|mark| *mark <= minutes) {
        let _ = write!(
            text,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            across(mark * 60.0),
            HEIGHT - 8.0,
            if mark == 0.0 { "0 min".to_owned() } else { short(mark) }
        );
    }
    for (points, colour) in all.iter().zip(COLOURS) {
        if points.is_empty() {
            continue;
        }
        let path: Vec<String> =
            points.iter().map(|&(time, value)| format!("{:.1} {:.1}", across(time), up(value))).collect();
        let _ = writeln!(
            text,
            "<path d=\"M{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.3\"/>",
            path.join("L")
        );
    }
    text
}

/// From nothing to the greatest value, or over the powers of ten that are there.
struct Scale {
    low: f64,
    high: f64,
    logarithmic: bool,
}

impl Scale {
    fn of(values: impl Iterator<Item = f64>, logarithmic: bool) -> Scale {
        let (least, most) =
            values.fold((f64::MAX, 0.0_f64), |(least, most), value| (least.min(value), most.max(value)));
        if logarithmic {
            let low = least.clamp(0.001, 1e9).log10().floor();
            return Scale { low, high: most.max(0.001).log10().ceil().max(low + 1.0), logarithmic };
        }
        let step = Scale::step(most.max(1e-9));
        Scale { low: 0.0, high: step * (most.max(1e-9) / step).ceil(), logarithmic }
    }

    /// 1, 2 or 5 times a power of ten, some four of them up to `most`.
    fn step(most: f64) -> f64 {
        let power = 10_f64.powf((most / 4.0).log10().floor());
        [1.0, 2.0, 5.0, 10.0].into_iter().map(|n| n * power).find(|step| most / step <= 4.0).unwrap_or(power)
    }

    fn part(&self, value: f64) -> f64 {
        let value = if self.logarithmic { value.max(0.001).log10() } else { value };
        ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }

    fn marks(&self) -> Vec<f64> {
        if self.logarithmic {
            return (self.low as i32..=self.high as i32).map(|power| 10_f64.powi(power)).collect();
        }
        let step = Scale::step(self.high);
        (0..=4).map(|n| f64::from(n) * step).take_while(|mark| *mark <= self.high * 1.001).collect()
    }
}

fn short(value: f64) -> String {
    match value {
        1_000_000.0.. => format!("{} M", value / 1e6),
        10_000.0.. => format!("{} k", value / 1e3),
        _ => format!("{}", (value * 1000.0).round() / 1000.0),
    }
}

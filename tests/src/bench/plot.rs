//! The figures as pictures.

use std::fmt::Write as _;

use crate::{
    compare::Compared,
    growth::{Of, Point},
};

const STYLE: &str = "<style>text{fill:#444}.bar{fill:#3b7dd8}.peer{fill:#b0762e}.line{stroke:#888;stroke-width:1}\
    .curve{fill:none;stroke-width:2}@media(prefers-color-scheme:dark){text{fill:#ccc}}</style>";

/// A bar for each load and monitor, with a whisker over where its end likely is.
pub(crate) fn bars(compared: &[Compared]) -> String {
    const LEFT: f64 = 170.0;
    const WIDTH: f64 = 560.0;
    const STEP: f64 = 26.0;
    let most = compared.iter().map(|row| row.ratio.likely.1).fold(1.2, f64::max) * 1.05;
    let x = |ratio: f64| LEFT + ratio / most * WIDTH;
    let bottom = 40.0 + STEP * compared.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 780 {}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <style>text{{fill:#444}}.bar{{fill:#3b7dd8}}.peer{{fill:#b0762e}}.line{{stroke:#888;stroke-width:1}}\
         @media(prefers-color-scheme:dark){{text{{fill:#ccc}}}}</style>\n\
         <text x=\"{LEFT}\" y=\"16\">time with a monitor, against none (1.0 = no cost)</text>\n",
        bottom + 30.0
    );
    for (row, at) in compared.iter().zip(0..) {
        let y = 30.0 + STEP * f64::from(at);
        let class = if row.monitor == "postern" { "bar" } else { "peer" };
        let (low, high) = row.ratio.likely;
        let (low, median, high) = (x(low), x(row.ratio.median), x(high));
        let (middle, text) = (y + 8.0, y + 12.0);
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{text}\" text-anchor=\"end\">{}, {}</text>\
             <rect class=\"{class}\" x=\"{LEFT}\" y=\"{y}\" width=\"{:.1}\" height=\"16\"/>\
             <line class=\"line\" x1=\"{low:.1}\" x2=\"{high:.1}\" y1=\"{middle}\" y2=\"{middle}\"/>\
             <text x=\"{:.1}\" y=\"{text}\">{:.2}</text>",
            LEFT - 8.0,
            row.load,
            row.monitor,
            median - LEFT,
            high + 6.0,
            row.ratio.median,
        );
    }
    let one = x(1.0);
    let _ = writeln!(svg, "<line class=\"line\" x1=\"{one:.1}\" x2=\"{one:.1}\" y1=\"24\" y2=\"{bottom}\"/>");
    for tick in 0..=(most * 2.0) as u32 {
        let value = f64::from(tick) / 2.0;
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{value:.1}</text>",
            x(value),
            bottom + 16.0
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// What a record costs, over how many there are of whatever the agent remembers.
pub(crate) fn curves(points: &[Point]) -> String {
    const LEFT: f64 = 60.0;
    const TOP: f64 = 30.0;
    const HEIGHT: f64 = 260.0;
    const DECADE: f64 = 120.0;
    const COLOURS: [&str; 5] = ["#3b7dd8", "#2a9aa8", "#b0762e", "#4a9a5b", "#a04a9a"];
    let most = points.iter().map(|point| point.each.most / 1e3).fold(1.0, f64::max) * 1.1;
    let x = |count: u32| LEFT + f64::from(count).log10() * DECADE;
    let y = |each: f64| TOP + HEIGHT - each / 1e3 / most * HEIGHT;
    let (right, bottom) = (LEFT + 5.0 * DECADE, TOP + HEIGHT);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 780 340\" font-family=\"sans-serif\" font-size=\"12\">\n\
         {STYLE}\n<text x=\"{LEFT}\" y=\"16\">microseconds from a record's bytes to its line, over how many there are</text>\n\
         <line class=\"line\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{bottom}\" y2=\"{bottom}\"/>\n"
    );
    for decade in 0..=4_u32 {
        let count = 10_u32.pow(decade);
        let _ =
            writeln!(svg, "<text x=\"{:.0}\" y=\"{}\" text-anchor=\"middle\">{count}</text>", x(count), bottom + 16.0);
    }
    for tick in 0..=most as u32 {
        let at = y(f64::from(tick) * 1e3);
        let _ = writeln!(svg, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{tick}</text>", LEFT - 8.0, at + 4.0);
    }
    for (of, colour) in Of::ALL.into_iter().zip(COLOURS) {
        let own = || points.iter().filter(|point| point.of == of);
        let path: Vec<String> =
            own().map(|point| format!("{:.1},{:.1}", x(point.count), y(point.each.median))).collect();
        let _ = writeln!(svg, "<polyline class=\"curve\" stroke=\"{colour}\" points=\"{}\"/>", path.join(" "));
        for point in own() {
            let at = x(point.count);
            let (least, most) = (y(point.each.least), y(point.each.most));
            let _ = writeln!(
                svg,
                "<line stroke=\"{colour}\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{least:.1}\" y2=\"{most:.1}\"/>"
            );
        }
        if let Some(last) = own().next_back() {
            let (at, above) = (x(last.count) + 6.0, y(last.each.median) - 4.0);
            let _ = writeln!(svg, "<text x=\"{at:.1}\" y=\"{above:.1}\">{}</text>", of.name());
        }
    }
    svg.push_str("</svg>\n");
    svg
}

//! A record -> bars of CPU, memory and wire bytes by agent, as SVG that light and dark pages show.

use std::fmt::Write as _;

use super::record::{Agent, Record, thousands};

const WIDTH: f64 = 760.0;
/// Where bars begin, and the room for the number behind the longest one.
const LEFT: f64 = 170.0;
const RIGHT: f64 = 70.0;
const BAR: f64 = 18.0;
const STEP: f64 = 24.0;
const TITLE: f64 = 30.0;
const GAP: f64 = 14.0;

type Panel = (&'static str, fn(&Agent) -> f64, fn(f64) -> String);

const PANELS: &[Panel] = &[
    (
        "CPU-seconds per million samples",
        |a| a.cpu_seconds_per_million,
        |v| format!("{v:.2}"),
    ),
    (
        "Resident bytes per series",
        |a| a.resident_bytes_per_series,
        thousands,
    ),
    (
        "Wire bytes per sample",
        |a| a.wire_bytes_per_sample,
        |v| format!("{v:.1}"),
    ),
];

/// The chart of the record's first load; less is better in each panel.
pub(super) fn svg(record: &Record) -> String {
    let load = record.loads.first();
    let agents = load.map_or(&[][..], |load| &load.agents);
    let agents: Vec<&Agent> = agents.iter().filter(|agent| agent.delivered).collect();
    let panel_height = TITLE + STEP * agents.len() as f64 + GAP;
    let height = panel_height * PANELS.len() as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" height=\"{height}\" role=\"img\">\n<title>{}; less is better</title>\n\
         <style>\n\
         text {{ font: 13px system-ui, sans-serif; fill: #1f2328 }}\n\
         .title {{ font-weight: 600 }}\n\
         .own {{ fill: #1f6feb }}\n\
         .other {{ fill: #8c959f }}\n\
         @media (prefers-color-scheme: dark) {{ text {{ fill: #e6edf3 }} .own {{ fill: #58a6ff }} \
         .other {{ fill: #6e7681 }} }}\n\
         </style>\n",
        escaped(record.loads.first().map_or("", |load| &load.text))
    );
    for (place, (title, figure, text)) in PANELS.iter().enumerate() {
        let top = panel_height * place as f64;
        let _infallible = writeln!(
            out,
            "<text class=\"title\" x=\"0\" y=\"{:.0}\">{title} (less is better)</text>",
            top + 18.0
        );
        let most = agents.iter().map(|agent| figure(agent)).fold(0.0, f64::max);
        for (index, agent) in agents.iter().enumerate() {
            let (y, value) = (top + TITLE + STEP * index as f64, figure(agent));
            let share = if most > 0.0 { value / most } else { 0.0 };
            let length = (share * (WIDTH - LEFT - RIGHT)).max(1.0);
            let class = if index == 0 { "own" } else { "other" };
            let _infallible = writeln!(
                out,
                "<text x=\"0\" y=\"{:.0}\">{}</text>\
                 <rect class=\"{class}\" x=\"{LEFT}\" y=\"{y:.0}\" width=\"{length:.1}\" \
                 height=\"{BAR}\" rx=\"2\"/><text x=\"{:.1}\" y=\"{:.0}\">{}</text>",
                y + 14.0,
                escaped(&agent.title()),
                LEFT + length + 6.0,
                y + 14.0,
                text(value)
            );
        }
    }
    out.push_str("</svg>\n");
    out
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::super::record;
    use super::*;

    #[test]
    fn a_bar_for_each_agent_in_each_panel_inside_of_the_picture() {
        let content = serde_json::from_str(include_str!("fixture.json")).unwrap();
        let record = record::read(&content).unwrap();
        let svg = svg(&record);
        let agents = record.loads[0].agents.len();
        assert_eq!(svg.matches("<rect").count(), agents * PANELS.len());
        assert_eq!(
            svg.matches("<text").count(),
            (1 + 2 * agents) * PANELS.len()
        );
        assert!(svg.contains("prefers-color-scheme: dark") && !svg.contains("@import"));
        let widths = svg
            .split("width=\"")
            .skip(2)
            .filter_map(|rest| rest.split('"').next()?.parse().ok());
        let widths: Vec<f64> = widths.collect();
        assert!(
            widths.iter().all(|width| *width <= WIDTH - LEFT - RIGHT),
            "{widths:?}"
        );
        assert_eq!(escaped("a<b&c"), "a&lt;b&amp;c");
    }
}

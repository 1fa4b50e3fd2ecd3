//! The table and the picture of the figures.

use std::fmt::Write;

use crate::{
    goals::{Better, Compared, Goal, OURS, Verdict},
    sampling::Samples,
};

/// A row with its figures.
pub struct Row {
    pub goal: Goal,
    pub samples: Samples,
    pub compared: Vec<Compared>,
    pub verdict: Verdict,
}

impl Row {
    pub fn new(goal: Goal, samples: Samples) -> Self {
        let compared = goal.compare(&samples);
        let bounds = goal.bounded(&samples);
        let bounded = bounds.iter().all(|(_, median, bound)| median <= bound);
        let least = compared.iter().map(|compared| compared.verdict).min();
        let verdict = match least {
            _ if !bounded => Verdict::FallsShort,
            Some(verdict) => verdict,
            None if bounds.is_empty() => Verdict::FallsShort,
            None => Verdict::Passes,
        };
        Self {
            goal,
            samples,
            compared,
            verdict,
        }
    }

    fn figure(&self) -> &'static str {
        self.samples.figures.first().copied().unwrap_or_default()
    }

    /// Returns a line of the table, in Markdown.
    pub fn line(&self) -> String {
        let mut line = format!(
            "| {}`{}` | {} {} |",
            match self.goal.of {
                OURS => String::new(),
                other => format!("{other} "),
            },
            self.goal.run,
            number(self.samples.median(self.goal.of, self.figure())),
            match self.goal.run.starts_with("forward-hs") {
                true => "connections/s",
                false => unit(self.figure()),
            },
        );
        let cells: Vec<String> = self.compared.iter().map(cell).collect();
        let bounds = self.goal.bounded(&self.samples);
        let bounds = bounds.iter().map(|(name, median, bound)| {
            format!("{name} {} (at most {})", number(*median), number(*bound))
        });
        let cells: Vec<String> = cells.into_iter().chain(bounds).collect();
        let _ = write!(line, " {} | {} |", cells.join("; "), self.verdict);
        line
    }
}

pub const HEAD: &str =
    "| run | ours | against (must, aim; CPU for the same work) | |\n|---|---|---|---|";

fn cell(compared: &Compared) -> String {
    let against = &compared.against;
    let mut cell = format!(
        "{} {}x ({}, {}",
        against.peer,
        number(compared.ratio),
        against.must,
        against.aim
    );
    if !compared.cpu.is_nan() {
        let _ = write!(cell, "; {}x", number(compared.cpu));
    }
    cell.push(')');
    if compared.verdict == Verdict::FallsShort {
        cell = format!("**{cell}**");
    }
    cell
}

fn unit(figure: &str) -> &str {
    match figure {
        "msgs/s" => "messages/s",
        "per_s" => "upgrades/s",
        "p50_us" => "us",
        "KiB/conn" | "KiB/session" | "growth_KiB" => "KiB",
        other => other,
    }
}

/// Returns a number with three significant digits.
pub fn number(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => "-".into(),
        size if size >= 10_000.0 => grouped(value),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// Returns a whole number with separated thousands.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

const PANEL: (f64, f64) = (320.0, 22.0);
const MARGIN: f64 = 16.0;
const COLUMNS: usize = 3;
const BAR: f64 = 15.0;
const LABEL: f64 = 96.0;

/// Returns the title of a panel, for readers who do not know the runs.
fn title(run: &str) -> String {
    let words: Vec<&str> = run.split(':').collect();
    match words[..] {
        ["dl", size] => format!("download, {size} B writes"),
        ["ul", size] => format!("upload, {size} B messages"),
        ["dl64", size] => format!("base64 download, {size} B"),
        ["ul64", size] => format!("base64 upload, {size} B"),
        ["echo", connections, window, size] => {
            format!("echo, {size} B, {connections} x {window} in flight")
        }
        ["rtt", size] => format!("round trip, {size} B, one core"),
        ["hs", _] => "upgrades".into(),
        ["idle", _] => "idle session".into(),
        ["idle", _, touch] => format!("idle after a message of {touch} B"),
        _ => run.into(),
    }
}

/// Returns an SVG with bars of the medians, one panel for each run. The only colours are
/// greys that are visible on a dark page too.
pub fn svg(rows: &[Row], peers: &[String]) -> String {
    let rows: Vec<&Row> = rows
        .iter()
        .filter(|row| row.goal.of == OURS && !row.goal.against.is_empty())
        .collect();
    let bars = |row: &Row| {
        let mut bars: Vec<(String, f64)> = peers
            .iter()
            .map(|peer| (peer.clone(), row.samples.median(peer, row.figure())))
            .filter(|(_, median)| median.is_finite())
            .collect();
        bars.sort_by(|(_, one), (_, other)| match row.goal.better {
            Better::Lower => one.total_cmp(other),
            _ => other.total_cmp(one),
        });
        bars
    };
    let most = rows.iter().map(|row| bars(row).len()).max().unwrap_or(0);
    let height = PANEL.1 + most as f64 * BAR + MARGIN;
    let width = COLUMNS as f64 * (PANEL.0 + MARGIN) + MARGIN;
    let total = rows.len().div_ceil(COLUMNS) as f64 * height + MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {total}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    for (n, row) in rows.iter().enumerate() {
        let x = MARGIN + (n % COLUMNS) as f64 * (PANEL.0 + MARGIN);
        let mut y = MARGIN + (n / COLUMNS) as f64 * height;
        let bars = bars(row);
        let longest = bars.iter().map(|(_, value)| *value).fold(0.0, f64::max);
        let less = match row.goal.better {
            Better::Lower => ", less is better",
            _ => "",
        };
        let _ = writeln!(
            svg,
            "<text x=\"{x}\" y=\"{:.1}\" font-weight=\"bold\">{}: {}{less}</text>",
            y + 11.0,
            title(row.goal.run),
            unit(row.figure()),
        );
        y += PANEL.1 - 4.0;
        for (peer, value) in bars {
            let fill = if peer == OURS { "#d9480f" } else { "#9aa5b1" };
            let weight = if peer == OURS {
                " font-weight=\"bold\""
            } else {
                ""
            };
            let length = (PANEL.0 - LABEL - 60.0) * value / longest;
            let text = y + BAR - 4.0;
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{text:.1}\" text-anchor=\"end\"{weight}>{peer}</text>\
                 <rect x=\"{:.1}\" y=\"{:.1}\" width=\"{length:.1}\" height=\"{:.1}\" fill=\"{fill}\"/>\
                 <text x=\"{:.1}\" y=\"{text:.1}\"{weight}>{}</text>",
                x + LABEL - 6.0,
                x + LABEL,
                y + 1.0,
                BAR - 3.0,
                x + LABEL + length + 4.0,
                number(value),
            );
            y += BAR;
        }
    }
    svg.push_str("</svg>\n");
    svg
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_are_short_or_grouped() {
        for (value, text) in [
            (0.456, "0.46"),
            (12.34, "12.3"),
            (1710.4, "1710"),
            (27_289.0, "27,289"),
            (2_349_912.0, "2,349,912"),
            (f64::NAN, "-"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}

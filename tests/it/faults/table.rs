//! The table of all ends, as text for the documentation.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use super::{
    carrier::{Carrier, KINDS, Kind, Transport},
    end::{End, SECTIONS},
    honest::EXCEPTIONS,
    outcome::Outcome,
};

pub(super) type Cells = BTreeMap<(End, Carrier), Outcome>;

const HEAD: &str = "| end | session | reads | writes | cause | output | error channel | Close | transport | after |\n\
                    |---|---|---|---|---|---|---|---|---|---|\n";

/// The column of the transport.
const TRANSPORT: usize = 6;

pub(super) fn render(cells: &Cells) -> String {
    let mut text = String::new();
    for (section, ends) in SECTIONS {
        let _ = write!(text, "## {section}\n\n{HEAD}");
        for end in *ends {
            for (at, (columns, carriers)) in rows(*end, cells).iter().enumerate() {
                let words = if at == 0 { end.words() } else { "" };
                let columns = columns.join(" | ");
                let _ = writeln!(text, "| {words} | {} | {columns} |", group(*end, carriers));
            }
        }
        text.push('\n');
    }
    impossible(&mut text);
    exceptions(&mut text);
    text
}

type Row = ([String; 8], Vec<Carrier>);

/// Returns the rows of an end: the cells, and where they are the same.
fn rows(end: End, cells: &Cells) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let (mut connections, mut streams) = (BTreeMap::new(), BTreeMap::new());
    for carrier in Carrier::all() {
        let Some(outcome) = cells.get(&(end, carrier)) else {
            continue;
        };
        let mut columns = outcome.columns();
        // The end of a stream of HTTP/2 has words of its own, and no row.
        let transport = std::mem::take(&mut columns[TRANSPORT]);
        let seen = match carrier.transport {
            Transport::Http2 => &mut streams,
            Transport::Http1 | Transport::Post => &mut connections,
        };
        let all: &mut BTreeSet<String> = seen.entry(columns.clone()).or_default();
        all.insert(transport);
        match rows.iter_mut().find(|(row, _)| *row == columns) {
            Some((_, carriers)) => carriers.push(carrier),
            None => rows.push((columns, vec![carrier])),
        }
    }
    for (columns, _) in &mut rows {
        let [connections, streams] = [&connections, &streams].map(|seen| {
            let seen = seen.get(columns).into_iter().flatten();
            seen.map(String::as_str).collect::<Vec<_>>().join(" or ")
        });
        columns[TRANSPORT] = match (connections.as_str(), streams.as_str()) {
            (one, "") | ("", one) => one.to_owned(),
            (one, other) if one == other => one.to_owned(),
            (one, other) => format!("{one}; over HTTP/2 {other}"),
        };
    }
    rows
}

fn possible(end: End) -> impl Iterator<Item = Carrier> {
    let all = Carrier::all().into_iter();
    all.filter(move |carrier| end.is_impossible(*carrier).is_none())
}

/// Returns a short text for the carriers of a row.
fn group(end: End, carriers: &[Carrier]) -> String {
    let mut parts = Vec::new();
    for kind in KINDS {
        let all: Vec<_> = possible(end)
            .filter(|carrier| carrier.kind == kind)
            .collect();
        let some: Vec<_> = { carriers.iter() }
            .filter(|carrier| carrier.kind == kind)
            .copied()
            .collect();
        if some.is_empty() {
            continue;
        }
        parts.push(match some.len() == all.len() {
            true => kind.to_string(),
            false => format!("{kind}: {}", protocols(&all, &some)),
        });
    }
    parts.join("; ")
}

fn protocols(all: &[Carrier], some: &[Carrier]) -> String {
    let (all_posted, all_upgraded) = split(all);
    let (posted, upgraded) = split(some);
    let mut names: Vec<String> = Vec::new();
    let of = |transport| -> Vec<Carrier> {
        let of_it = all_upgraded.iter().filter(|c| c.transport == transport);
        of_it.copied().collect()
    };
    if upgraded.is_empty() {
        // There is nothing to name.
    } else if upgraded == all_upgraded {
        names.push("WebSocket".into());
    } else if upgraded == of(Transport::Http1) {
        names.push("HTTP/1.1".into());
    } else if upgraded == of(Transport::Http2) {
        names.push("HTTP/2".into());
    } else {
        for carrier in &upgraded {
            let of_it = |carriers: &[Carrier]| {
                let same = carriers.iter().filter(|c| c.protocol == carrier.protocol);
                same.count()
            };
            let name = match (of_it(&upgraded) == of_it(&all_upgraded), carrier.transport) {
                (true, _) => carrier.short().to_owned(),
                (false, Transport::Http2) => format!("{} over HTTP/2", carrier.short()),
                (false, _) => format!("{} over HTTP/1.1", carrier.short()),
            };
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    if posted == all_posted && !posted.is_empty() {
        names.push("SPDY".into());
    } else {
        names.extend(
            posted
                .iter()
                .map(|carrier| format!("SPDY {}", carrier.short())),
        );
    }
    names.join(", ")
}

fn split(carriers: &[Carrier]) -> (Vec<Carrier>, Vec<Carrier>) {
    let is_posted = |carrier: &Carrier| carrier.transport == Transport::Post;
    carriers.iter().copied().partition(is_posted)
}

fn impossible(text: &mut String) {
    text.push_str("# Ends that do not exist\n\n| end | not in | because |\n|---|---|---|\n");
    for end in SECTIONS.iter().flat_map(|(_, ends)| *ends) {
        let mut reasons: Vec<(&str, Vec<Carrier>)> = Vec::new();
        for carrier in Carrier::all() {
            let Some(reason) = end.is_impossible(carrier) else {
                continue;
            };
            match reasons.iter_mut().find(|(other, _)| *other == reason) {
                Some((_, carriers)) => carriers.push(carrier),
                None => reasons.push((reason, vec![carrier])),
            }
        }
        for (reason, carriers) in reasons {
            let kinds: Vec<_> = { KINDS.iter() }
                .filter_map(|kind| without(*kind, &carriers))
                .collect();
            let _ = writeln!(
                text,
                "| {} | {} | {reason} |",
                end.words(),
                kinds.join("; ")
            );
        }
    }
}

/// Returns a short text for the carriers of a kind, if there are any.
fn without(kind: Kind, carriers: &[Carrier]) -> Option<String> {
    let of_kind = |carriers: &[Carrier]| -> Vec<_> {
        let of_it = carriers.iter().filter(|carrier| carrier.kind == kind);
        of_it.copied().collect()
    };
    let (all, some) = (of_kind(&Carrier::all()), of_kind(carriers));
    match some.len() {
        0 => None,
        n if n == all.len() => Some(kind.to_string()),
        _ => Some(format!("{kind}: {}", protocols(&all, &some))),
    }
}

fn exceptions(text: &mut String) {
    text.push_str("\n# What cannot be helped\n\n");
    for exception in EXCEPTIONS {
        let _ = writeln!(text, "* **{}**: {}", exception.name, exception.reason);
    }
}

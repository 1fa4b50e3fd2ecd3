//! Attacks over WebSocket: over HTTP/1.1, TLS and HTTP/2.

mod acts;
mod frames;
mod heads;
mod list;
mod streams;
pub(crate) mod target;

use super::{attack, attack::HEAD};

#[test]
fn heads_are_bounded() {
    attack("attacks::websocket::heads_are_bounded", &list::heads(), 0);
}

#[test]
fn cut_and_slow_frames_are_bounded() {
    let test = "attacks::websocket::cut_and_slow_frames_are_bounded";
    attack(test, &list::frames(), 0);
}

#[test]
fn floods_are_bounded() {
    attack("attacks::websocket::floods_are_bounded", &list::floods(), 0);
}

#[test]
fn stalls_are_bounded() {
    attack("attacks::websocket::stalls_are_bounded", &list::stalls(), 0);
}

#[test]
fn streams_are_bounded() {
    attack(
        "attacks::websocket::streams_are_bounded",
        &list::streams(),
        0,
    );
}

#[test]
#[ignore = "it prints the tables of the guide, and takes some minutes"]
fn at_full_size() {
    let families = [
        ("Heads", list::heads()),
        ("Frames", list::frames()),
        ("Floods", list::floods()),
        ("Stalls", list::stalls()),
        ("Streams", list::streams()),
    ];
    for (name, attacks) in families {
        println!("\n{name}\n\n{HEAD}");
        attack("attacks::websocket::at_full_size", &attacks, 1);
    }
}

//! Attacks: what each costs the server at most, and that nothing of it stays. Those over SPDY are listed
//! here, and `websocket` has the others.
//!
//! Each attack is made on a server of its own, after a small one. Then it is made again until it adds
//! nothing to what the server keeps for later sessions.

mod acts;
mod attack;
mod attacker;
mod gauge;
mod http2;
mod list;
mod pipe;
mod run;
pub(crate) mod target;
mod tls;
pub(crate) mod websocket;

use self::attack::Attack;
use crate::server::allow_descriptors;

/// Makes all of these attacks, and prints a row of a table for each. The `size` is 0 for a test, and
/// 1 for the documentation.
fn attack(test: &str, attacks: &[Attack], size: usize) {
    allow_descriptors();
    for attack in attacks {
        for &carrier in attack.over {
            // There is nothing in the server's process, and it ends.
            let Some(measured) = attack.measure(test, carrier, size) else {
                return;
            };
            println!("{}", attack.row(carrier, size, &measured));
            attack.check(carrier, size, &measured);
        }
    }
}

#[test]
fn header_blocks_and_cut_frames_are_bounded() {
    let test = "attacks::header_blocks_and_cut_frames_are_bounded";
    attack(test, &list::frames(), 0);
}

#[test]
fn floods_are_bounded() {
    attack("attacks::floods_are_bounded", &list::floods(), 0);
}

#[test]
fn stalls_are_bounded() {
    attack("attacks::stalls_are_bounded", &list::stalls(), 0);
}

#[test]
fn what_is_not_completed_leaves_nothing() {
    let test = "attacks::what_is_not_completed_leaves_nothing";
    attack(test, &list::beginnings(), 0);
}

#[test]
#[ignore = "it prints the table of the guide, and takes a minute"]
fn at_full_size() {
    println!("{}", attack::HEAD);
    for attacks in [
        list::frames(),
        list::floods(),
        list::stalls(),
        list::beginnings(),
    ] {
        attack("attacks::at_full_size", &attacks, 1);
    }
}

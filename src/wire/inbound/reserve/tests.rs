use proptest::{collection::vec, prelude::*};

use super::*;

/// Takes as much as a session gets, byte by byte.
#[cfg(feature = "spdy")]
fn most(take: impl Fn(usize) -> bool) -> usize {
    (0..usize::MAX).take_while(|_| take(1)).count()
}

#[test]
fn a_session_takes_its_share_or_an_eighth_of_the_total() {
    let total = TotalReserve::new(800);
    let one = StallReserve::new(60, &total);
    assert!(one.take(60));
    assert!(!one.take(1), "its share is taken");
    let other = StallReserve::new(800, &total);
    assert!(!other.take(93), "an eighth of the rest is less");
    assert!(other.take(92));
    one.give_back(60);
    assert!(other.take(8) && !other.take(1), "an eighth of all");
}

#[cfg(feature = "spdy")]
#[test]
fn a_session_gets_an_eighth_of_what_is_left_of_half_at_once() {
    let total = TotalReserve::new(2 * 800);
    let sessions: Vec<_> = (0..50).map(|_| StallReserve::new(1600, &total)).collect();
    let most = |session: &StallReserve| most(|bytes| session.take_at_once(bytes));
    assert_eq!(most(&sessions[0]), 100);
    assert_eq!(most(&sessions[1]), 700 / 8);
    let all: usize = sessions[2..].iter().map(most).sum();
    assert!((600..800).contains(&(187 + all)), "{all}");
    assert_eq!(most(&sessions[0]), 0, "it has more than the others");
    sessions[0].give_back(100);
    assert!(
        (13..100).contains(&most(&sessions[0])),
        "it gets some again"
    );
    drop(sessions);
    assert!(StallReserve::new(1600, &total).take(200), "all is back");
}

#[cfg(feature = "spdy")]
#[test]
fn a_quarter_of_the_total_is_not_lent_to_connections() {
    let total = TotalReserve::new(800);
    let sessions: Vec<_> = (0..100).map(|_| StallReserve::new(800, &total)).collect();
    let most = |session: &StallReserve| most(|bytes| session.take_for_connection(bytes));
    let lent: usize = sessions.iter().map(most).sum();
    // An eighth of the last seven bytes is none.
    assert_eq!(lent, 593);
    let channel = StallReserve::new(800, &total);
    assert!(!channel.take_at_once(1) && channel.take(25));
    sessions[0].give_back(20);
    assert!(!sessions[0].take_for_connection(1), "the quarter is in use");
}

#[test]
fn what_a_session_had_goes_back_with_it() {
    let total = TotalReserve::new(800);
    let one = StallReserve::new(100, &total);
    assert!(one.take(70));
    one.give_back(30);
    drop(one);
    assert!(StallReserve::new(100, &total).take(100));
}

#[test]
fn none_is_none() {
    assert!(!StallReserve::new(0, &TotalReserve::new(100)).take(1));
    assert!(!StallReserve::new(100, &TotalReserve::new(0)).take(1));
}

/// A step of one of the sessions.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Takes as much as it can, in pieces of this size.
    TakeAll(usize),
    Take(usize),
    /// Takes for a connection in a pause, and without one.
    TakeInAPause(usize),
    TakeAtOnce(usize),
    /// Gives back this part of what it has, in percent.
    Give(usize),
    /// Ends, and another session takes its place.
    End,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (1_usize..300).prop_map(Act::TakeAll),
        3 => (1_usize..3000).prop_map(Act::Take),
        1 => (1_usize..3000).prop_map(Act::TakeInAPause),
        1 => (1_usize..3000).prop_map(Act::TakeAtOnce),
        3 => (0_usize..=100).prop_map(Act::Give),
        1 => Just(Act::End),
    ]
}

/// The sessions that do their worst.
const SESSIONS: usize = 16;

proptest! {
    /// Whatever some sessions take and give back, in any order, `(7/8)ⁿ` of the total is left while `n`
    /// of them have something, and another session gets an eighth of that.
    #[test]
    fn sessions_that_take_all_they_can_leave_an_eighth_to_the_next(
        whole in prop_oneof![0_usize..200, 100_000_usize..1_000_000],
        acts in vec((0..SESSIONS, act()), 0..200),
    ) {
        let total = TotalReserve::new(whole);
        let new = || StallReserve::new(whole, &total);
        let mut sessions: Vec<_> = (0..SESSIONS).map(|_| new()).collect();
        for (n, act) in acts {
            let session = &mut sessions[n];
            match act {
                Act::TakeAll(bytes) => while session.take(bytes) {},
                Act::Take(bytes) => drop(session.take(bytes)),
                #[cfg(feature = "spdy")]
                Act::TakeInAPause(bytes) => drop(session.take_for_connection(bytes)),
                #[cfg(feature = "spdy")]
                Act::TakeAtOnce(bytes) => drop(session.take_at_once(bytes)),
                #[cfg(not(feature = "spdy"))]
                Act::TakeInAPause(bytes) | Act::TakeAtOnce(bytes) => drop(session.take(bytes)),
                Act::Give(percent) => session.give_back(lent(session) * percent / 100),
                Act::End => *session = new(),
            }
            let all: usize = sessions.iter().map(lent).sum();
            let left = total.left.load(Ordering::Relaxed);
            prop_assert_eq!(all + left, whole, "a byte is lost or lent twice");
            let having = sessions.iter().filter(|session| lent(session) > 0).count() as u32;
            let (left, whole) = (left as u128, whole as u128);
            prop_assert!(left * 8_u128.pow(having) >= whole * 7_u128.pow(having), "{left} are left");
            let next = (whole * 7_u128.pow(having) / 8_u128.pow(having + 1)) as usize;
            prop_assert!(next == 0 || new().take(next), "the next session does not get {next}");
        }
    }
}

fn lent(session: &StallReserve) -> usize {
    session.share - session.left.load(Ordering::Relaxed)
}

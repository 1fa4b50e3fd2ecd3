//! Every event in every stage. There is no socket, and the connection never arrives.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::ready,
    time::Duration,
};

use atomic_waker::AtomicWaker;
use http::{Request, StatusCode};
use hyper::upgrade;
use tokio_test::{assert_pending, assert_ready, task};

use super::*;
use crate::{
    protocol::{ChannelProtocolConfig, ChannelProtocols, ChannelType, Encoding},
    rejection::RejectionKind,
    session::Sessions,
};

const ACCEPT_TIMEOUT: Duration = Duration::from_secs(10);

/// The indices of the stages that can wait, in the order of the stages.
const LOOKING_UP: usize = 0;
const WAITING: usize = 1;
const UNDECIDED: usize = 2;

/// The behaviour of the user's code in a stage.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Act {
    Wait,
    Go,
    Fail,
    Panic,
}

struct Gate {
    act: std::sync::Mutex<Act>,
    waker: AtomicWaker,
}

impl Gate {
    fn set(&self, act: Act) {
        *self.act.lock().unwrap() = act;
        self.waker.wake();
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.waker.register(cx.waker());
        let act = *self.act.lock().unwrap();
        match act {
            Act::Wait => Poll::Pending,
            Act::Go => Poll::Ready(Ok(())),
            Act::Fail => Poll::Ready(Err(Rejection::new(StatusCode::GONE, "as told"))),
            Act::Panic => panic!("as told"),
        }
    }
}

/// The user's code of one opening.
#[derive(Clone)]
struct World {
    gates: [Arc<Gate>; 3],
    /// Each of the user's values holds a clone of this.
    alive: Arc<()>,
    /// The user's values panic when they are dropped.
    explode: bool,
    /// The first act of the service's future when it is polled.
    first: fn(&mut ChannelSet),
    config: Arc<SessionConfig>,
}

impl World {
    fn new(accept: AcceptMode) -> Self {
        let gate = || {
            Arc::new(Gate {
                act: std::sync::Mutex::new(Act::Go),
                waker: AtomicWaker::new(),
            })
        };
        Self {
            gates: [gate(), gate(), gate()],
            alive: Arc::new(()),
            explode: false,
            first: |_| (),
            config: Arc::new(SessionConfig {
                accept,
                accept_timeout: ACCEPT_TIMEOUT,
                ..SessionConfig::default()
            }),
        }
    }

    fn held(&self) -> Held {
        Held {
            alive: Arc::clone(&self.alive),
            explode: self.explode,
        }
    }

    fn is_released(&self) -> bool {
        Arc::strong_count(&self.alive) == 1
    }

    fn sessions(&self) -> &Sessions {
        &self.config.sessions
    }

    fn source(&self) -> Source {
        let world = self.clone();
        Source::Later(Arc::new(move |_| {
            let gate = Arc::clone(&world.gates[LOOKING_UP]);
            Box::pin(Finding(gate, world.held()))
        }))
    }

    fn service(&self) -> Scripted {
        Scripted {
            held: self.held(),
            // A counter of its own, because this clone of the world is not one of the user's
            // values.
            world: Self {
                alive: Arc::new(()),
                ..self.clone()
            },
        }
    }

    fn begin(&self) -> Result<Accepting<Scripted>, Rejection> {
        let service = || self.service();
        Accepting::begin(
            Upgrade::Http1,
            head(),
            &self.source(),
            &self.config,
            service,
        )
    }
}

struct Held {
    alive: Arc<()>,
    explode: bool,
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.explode {
            panic!("in a drop");
        }
    }
}

struct Finding(Arc<Gate>, #[allow(dead_code, reason = "for its drop")] Held);

impl Future for Finding {
    type Output = Result<ChannelProtocols, Rejection>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(cx).map_ok(|()| table())
    }
}

struct Scripted {
    held: Held,
    world: World,
}

impl Service<ChannelSet> for Scripted {
    type Response = ();
    type Error = Rejection;
    type Future = Running;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.world.gates[WAITING].poll(cx)
    }

    fn call(&mut self, channels: ChannelSet) -> Running {
        Running {
            gate: Some(Arc::clone(&self.world.gates[UNDECIDED])),
            channels,
            first: Some(self.world.first),
            _held: Held {
                alive: Arc::clone(&self.held.alive),
                explode: self.held.explode,
            },
        }
    }
}

/// A future that accepts once its gate lets it, and then stays pending.
struct Running {
    /// `None` once it has accepted.
    gate: Option<Arc<Gate>>,
    channels: ChannelSet,
    first: Option<fn(&mut ChannelSet)>,
    _held: Held,
}

impl Future for Running {
    type Output = Result<(), Rejection>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Some(first) = this.first.take() {
            first(&mut this.channels);
        }
        let Some(gate) = &this.gate else {
            return Poll::Pending;
        };
        ready!(gate.poll(cx))?;
        this.gate = None;
        accept(&mut this.channels);
        Poll::Pending
    }
}

/// Accepts the upgrade without waiting for the result.
fn accept(channels: &mut ChannelSet) {
    let accept = pin!(channels.session().accept());
    let _ = accept.poll(&mut Context::from_waker(std::task::Waker::noop()));
}

fn write(channels: &mut ChannelSet) {
    let mut writer = channels.take_writer(0).unwrap();
    let write = pin!(tokio::io::AsyncWriteExt::write(&mut writer, b"word"));
    let _ = write.poll(&mut Context::from_waker(std::task::Waker::noop()));
}

fn close(channels: &mut ChannelSet) {
    channels.session().close(4000, "").unwrap();
}

fn table() -> ChannelProtocols {
    let config = ChannelProtocolConfig::new(Encoding::Binary, [ChannelType::Write]);
    let table = ChannelProtocols::builder().protocol("", config);
    table.build().unwrap()
}

fn head() -> Box<Parts> {
    let request = Request::builder()
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .extension(upgrade::on(Request::new(())));
    Box::new(request.body(()).unwrap().into_parts().0)
}

type Polled = Poll<Result<StatusCode, Rejection>>;

/// An opening that is polled as in a task, which records whether it was woken.
struct Opening<S>(task::Spawn<Option<Accepting<S>>>);

impl<S> Opening<S>
where
    S: Service<ChannelSet, Response = ()> + Unpin,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    fn new(accepting: Accepting<S>) -> Self {
        Self(task::spawn(Some(accepting)))
    }

    fn poll(&mut self) -> Polled {
        self.0.enter(|cx, accepting| {
            let accepting = accepting.get_mut().as_mut().unwrap();
            let polled = accepting.poll::<()>(cx);
            polled.map_ok(|response| response.status())
        })
    }

    fn stage(&self) -> usize {
        match (*self.0).as_ref().unwrap().stage {
            Stage::LookingUp(_) => LOOKING_UP,
            Stage::Waiting(_) => WAITING,
            Stage::Undecided(_) => UNDECIDED,
            Stage::Done => UNDECIDED + 1,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Event {
    Act(Act),
    Timeout,
    Drop,
    Drain,
}

#[tokio::test(start_paused = true)]
async fn every_event_in_a_stage_has_its_answer_and_leaves_nothing_behind() {
    use Event::{Drain, Drop, Timeout};
    let overdue = ["look up its subprotocols", "no room", "Session::accept"];
    for stage in [LOOKING_UP, WAITING, UNDECIDED] {
        for event in [
            Event::Act(Act::Go),
            Event::Act(Act::Fail),
            Event::Act(Act::Panic),
            Timeout,
            Drop,
            Drain,
        ] {
            for explode in [false, true] {
                let case = format!("stage {stage}, {event:?}, {explode}");
                let world = World {
                    explode,
                    ..World::new(AcceptMode::Explicit)
                };
                world.gates[stage].set(Act::Wait);
                let mut opening = Opening::new(world.begin().unwrap());
                assert_pending!(opening.poll(), "{case}");
                assert_eq!(opening.stage(), stage, "{case}");
                assert!(!opening.0.is_woken() && !world.is_released(), "{case}");

                match event {
                    Event::Act(act) => world.gates[stage].set(act),
                    Drain => {
                        world.sessions().close();
                        world.gates[stage].set(Act::Go);
                        if stage == LOOKING_UP {
                            // The service is not even polled.
                            world.gates[WAITING].set(Act::Panic);
                        }
                    }
                    Timeout => {
                        tokio::time::sleep(ACCEPT_TIMEOUT - Duration::from_millis(1)).await;
                        assert!(!opening.0.is_woken(), "{case}");
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                    Drop => {
                        drop(opening);
                        assert!(world.is_released(), "{case}");
                        continue;
                    }
                }
                assert!(opening.0.is_woken(), "{case}");
                let answer = assert_ready!(opening.poll(), "{case}");
                if event == Event::Act(Act::Go) {
                    assert_eq!(answer.unwrap(), StatusCode::SWITCHING_PROTOCOLS, "{case}");
                    assert_eq!(world.sessions().list().len(), 1, "{case}");
                    continue;
                }
                let rejection = answer.unwrap_err();
                let (kind, text) = match event {
                    Event::Act(Act::Fail) => (RejectionKind::Custom, "as told"),
                    Event::Act(_) => (RejectionKind::Internal, "failed"),
                    Timeout => (RejectionKind::NotReady, overdue[stage]),
                    Drain | Drop => (RejectionKind::Draining, "shutting down"),
                };
                assert_eq!(rejection.kind(), kind, "{case}");
                assert!(rejection.message().contains(text), "{case}: {rejection}");
                assert!(world.is_released(), "{case}");
                assert!(world.sessions().list().is_empty(), "{case}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_does_not_wait_is_answered_in_the_first_poll() {
    for (stage, act, expected) in [
        (LOOKING_UP, Act::Go, Ok(StatusCode::SWITCHING_PROTOCOLS)),
        (LOOKING_UP, Act::Fail, Err(RejectionKind::Custom)),
        (LOOKING_UP, Act::Panic, Err(RejectionKind::Internal)),
        (WAITING, Act::Fail, Err(RejectionKind::Custom)),
        (WAITING, Act::Panic, Err(RejectionKind::Internal)),
        (UNDECIDED, Act::Fail, Err(RejectionKind::Custom)),
        (UNDECIDED, Act::Panic, Err(RejectionKind::Internal)),
    ] {
        for accept in [AcceptMode::Immediate, AcceptMode::Explicit] {
            let world = World::new(accept);
            world.gates[stage].set(act);
            let mut opening = Opening::new(world.begin().unwrap());
            let answer = assert_ready!(opening.poll()).map_err(|rejection| rejection.kind());
            assert_eq!(answer, expected, "stage {stage}, {act:?}, {accept:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_accepts_by_what_it_has_done_before_it_fails() {
    type First = fn(&mut ChannelSet);
    let accepted = Ok(StatusCode::SWITCHING_PROTOCOLS);
    let refused = Err(RejectionKind::Custom);
    for (first, immediate, explicit) in [
        ((|_| ()) as First, &refused, &refused),
        (accept, &accepted, &accepted),
        (write, &accepted, &refused),
        (close, &accepted, &refused),
    ] {
        for (mode, expected) in [
            (AcceptMode::Immediate, immediate),
            (AcceptMode::Explicit, explicit),
        ] {
            let world = World {
                first,
                ..World::new(mode)
            };
            world.gates[UNDECIDED].set(Act::Fail);
            let mut opening = Opening::new(world.begin().unwrap());
            let answer = assert_ready!(opening.poll()).map_err(|rejection| rejection.kind());
            assert_eq!(answer, *expected, "{mode:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_immediate_acceptance_does_not_wait_for_the_service() {
    let world = World::new(AcceptMode::Immediate);
    world.gates[UNDECIDED].set(Act::Wait);
    let mut opening = Opening::new(world.begin().unwrap());
    assert_eq!(assert_ready!(opening.poll()).unwrap(), 101);

    // But a drain refuses a session that has not begun.
    let world = World::new(AcceptMode::Immediate);
    world.gates[UNDECIDED].set(Act::Wait);
    world.gates[WAITING].set(Act::Wait);
    let mut opening = Opening::new(world.begin().unwrap());
    assert_pending!(opening.poll());
    world.sessions().close();
    world.gates[WAITING].set(Act::Go);
    let rejection = assert_ready!(opening.poll()).unwrap_err();
    assert_eq!(rejection.kind(), RejectionKind::Draining);
    assert!(world.is_released());
}

#[tokio::test(start_paused = true)]
async fn all_stages_share_one_accept_timeout() {
    let world = World::new(AcceptMode::Explicit);
    world.gates.iter().for_each(|gate| gate.set(Act::Wait));
    let mut opening = Opening::new(world.begin().unwrap());
    for stage in [LOOKING_UP, WAITING] {
        assert_pending!(opening.poll());
        tokio::time::sleep(ACCEPT_TIMEOUT * 2 / 5).await;
        world.gates[stage].set(Act::Go);
    }
    assert_pending!(opening.poll());
    assert_eq!(opening.stage(), UNDECIDED);
    tokio::time::sleep(ACCEPT_TIMEOUT / 5 + Duration::from_millis(1)).await;
    let rejection = assert_ready!(opening.poll()).unwrap_err();
    assert_eq!(rejection.kind(), RejectionKind::NotReady);
}

#[tokio::test(start_paused = true)]
async fn where_the_head_has_gone_elsewhere_the_channels_have_none() {
    fn with_head(channels: &mut ChannelSet) {
        assert!(channels.request().is_some());
    }
    fn without_head(channels: &mut ChannelSet) {
        assert!(channels.request().is_none());
    }

    let world = World {
        first: with_head,
        ..World::new(AcceptMode::Explicit)
    };
    let mut opening = Opening::new(world.begin().unwrap());
    assert_eq!(assert_ready!(opening.poll()).unwrap(), 101);

    let world = World {
        first: without_head,
        ..World::new(AcceptMode::Explicit)
    };
    let proposal = Proposal::judge(Upgrade::Http1, head(), &world.config).unwrap();
    let (agreement, _head) = proposal.select(&table()).unwrap();
    let mut opening = Opening::new(Accepting::agreed(world.service(), agreement));
    assert_eq!(assert_ready!(opening.poll()).unwrap(), 101);
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "polled after it was ready")]
async fn an_answer_is_given_once() {
    let world = World::new(AcceptMode::Immediate);
    let mut accepting = world.begin().unwrap();
    let answer = poll_fn(|cx| accepting.poll::<()>(cx)).await;
    assert!(answer.is_ok());
    let _ = poll_fn(|cx| accepting.poll::<()>(cx)).await;
}

//! One visit of a client: from its connection to the end of its sessions, or to a fault.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::{sleep, timeout},
};

use crate::{
    carrier::Carrier,
    client::{self, BoxIo, Leave, Script},
    http2,
    judge::{Judged, Known, judge},
    lane::{Lane, bytes},
    proxy::{self, Broke},
    random::Random,
    raw::Raw,
    spdy::Spdy,
    tally::Tally,
};

/// The time of one visit, in which nothing but its own waits takes long.
const LONG: Duration = Duration::from_secs(60);

/// h2 gives up a connection if many frames with less than 256 bytes wait to be read.
const LEAST_OVER_HTTP_2: usize = 300;

/// A client, and what its visits need.
#[derive(Clone, Debug)]
pub(crate) struct Visitor {
    pub(crate) address: String,
    pub(crate) tally: Tally,
}

/// A session that was not opened.
enum Unopened {
    /// The service has refused it.
    Refused,
    Wrong(String),
}

/// A connection to the server, perhaps through a proxy.
struct Line {
    stream: TcpStream,
    broke: Broke,
}

/// The plan of one session.
struct Plan {
    carrier: Carrier,
    lanes: Vec<Lane>,
    script: Script,
    /// The offset in the script behind the end of each lane's input.
    ends: Vec<usize>,
    /// The script ends with a breach of the protocol.
    breach: bool,
}

fn text(error: impl ToString) -> String {
    error.to_string()
}

impl Visitor {
    /// Visits the server once, and counts what has happened.
    pub(crate) async fn visit(&self, name: &str, random: &mut Random) -> Result<(), String> {
        let visit = async {
            match random.next(4) {
                0 => self.share(name, random).await,
                _ => self.session(name, random).await,
            }
        };
        timeout(LONG, visit).await.map_err(|_| "it hangs")?
    }

    async fn connect(&self, reset: bool, random: &mut Random) -> Result<Line, String> {
        let socket = TcpSocket::new_v4().map_err(text)?;
        if random.next(3) == 0 {
            // Both sides wait often.
            socket.set_recv_buffer_size(4096).map_err(text)?;
            socket.set_send_buffer_size(4096).map_err(text)?;
        }
        let address = self.address.parse().map_err(|_| "no address")?;
        let server = socket.connect(address).await.map_err(text)?;
        let line = match random.next(5) {
            0..2 => {
                let through = proxy::connect(server, random, &self.tally).await;
                let (stream, broke) = through.map_err(text)?;
                Line { stream, broke }
            }
            _ => Line {
                stream: server,
                broke: Broke::default(),
            },
        };
        if reset {
            // A connection that is dropped before both sides have ended it is reset.
            line.stream.set_zero_linger().map_err(text)?;
        }
        Ok(line)
    }

    /// Makes a connection for one session.
    async fn session(&self, name: &str, random: &mut Random) -> Result<(), String> {
        let plan = Plan::draw(Carrier::draw(random), 1, random);
        let reset = random.next(2) == 0;
        let Line { stream, broke } = self.connect(reset, random).await?;
        let (path, protocol) = (plan.path(name), plan.carrier.protocol());
        let stream: BoxIo = Box::new(stream);
        let opened = match plan.carrier.is_websocket() {
            true => Raw::handshake_at(stream, &path, protocol).await,
            false => Spdy::try_post_over(stream, &path, protocol)
                .await
                .map(|spdy| spdy.raw),
        };
        let opened = opened.map_err(|answer| match answer.starts_with("HTTP/1.1 500 ") {
            true => Unopened::Refused,
            false => Unopened::Wrong(answer),
        });
        let form = plan.carrier.name();
        self.follow(form, name, plan, opened, &broke, random).await
    }

    /// Makes one connection over HTTP/2 for several sessions at once.
    async fn share(&self, name: &str, random: &mut Random) -> Result<(), String> {
        let reset = random.next(2) == 0;
        let Line { stream, broke } = self.connect(reset, random).await?;
        let connection = match http2::try_handshake(stream).await {
            Ok(connection) => connection,
            Err(_) if broke.is_broken() => return self.lost_early("HTTP/2"),
            Err(error) => return Err(text(error)),
        };
        let sessions = (0..1 + random.next(6)).map(|n| {
            let (mut connection, broke) = (connection.clone(), broke.clone());
            let (name, mut random) = (format!("{name}-{n}"), random.split());
            async move {
                let carrier = Carrier::draw_websocket(&mut random);
                let plan = Plan::draw(carrier, LEAST_OVER_HTTP_2, &mut random);
                let protocol = carrier.protocol();
                let request = http2::request(&plan.path(&name), protocol);
                let opened = match connection.try_ask(request).await {
                    Ok(Ok(answer)) => {
                        let raw = http2::upgraded(answer, protocol).await;
                        Ok(Raw::over(Box::new(raw.io) as BoxIo, protocol))
                    }
                    Ok(Err(refused)) if refused.status == 500 => Err(Unopened::Refused),
                    Ok(Err(refused)) => Err(Unopened::Wrong(format!("{refused:?}"))),
                    Err(error) => Err(Unopened::Wrong(text(error))),
                };
                let form = format!("HTTP/2, {}", carrier.name());
                let done = self.follow(&form, &name, plan, opened, &broke, &mut random);
                done.await.map_err(|wrong| format!("{name}: {wrong}"))
            }
        });
        let sessions: Vec<_> = sessions.collect();
        futures_util::future::try_join_all(sessions).await?;
        self.tally.note("connections over HTTP/2");
        Ok(())
    }

    fn lost_early(&self, form: &str) -> Result<(), String> {
        self.tally.note(format!("{form}: lost in its handshake"));
        Ok(())
    }

    /// Follows the plan of a session, and judges it.
    async fn follow(
        &self,
        form: &str,
        name: &str,
        plan: Plan,
        opened: Result<Raw<BoxIo>, Unopened>,
        broke: &Broke,
        random: &mut Random,
    ) -> Result<(), String> {
        let raw = match opened {
            Ok(raw) => raw,
            Err(_) if broke.is_broken() => return self.lost_early(form),
            // A service that fails before it has written anything refuses.
            Err(Unopened::Refused) if plan.may_be_refused() => {
                self.tally.note(format!("{form}: refused"));
                return Ok(());
            }
            Err(Unopened::Refused) => return Err("refused".into()),
            Err(Unopened::Wrong(answer)) => return Err(answer),
        };
        let Plan {
            carrier,
            lanes,
            script,
            ends,
            breach,
        } = plan;
        let told = client::run(carrier, raw, lanes.len(), &script, random).await;
        let note = self.note(name).await?;
        let known = Known {
            carrier,
            lanes: &lanes,
            ends: &ends,
            breach,
            left: told.left,
            broke: broke.is_broken(),
            told: &told,
        };
        let judged = judge(&known, &note);
        let judged = judged.map_err(|wrong| {
            let listed: Vec<_> = lanes.iter().map(Lane::to_string).collect();
            let listed = listed.join(",");
            let (close, go_away) = (told.close, told.go_away);
            format!(
                "{form} {listed}: {wrong}\n{known:?}\nclose {close:?}, GOAWAY {go_away:?}, server: {note:?}"
            )
        })?;
        let Judged { kind, bytes } = judged;
        self.tally.note(format!("{form}: {kind}"));
        self.tally.note("sessions");
        self.tally.add("bytes that were checked", bytes);
        self.tally.add("services", lanes.len() as u64);
        Ok(())
    }

    /// Asks what the server knows of a session, once it is over.
    async fn note(&self, name: &str) -> Result<String, String> {
        loop {
            let mut stream = TcpStream::connect(&self.address).await.map_err(text)?;
            let request =
                format!("GET /note/{name} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.map_err(text)?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.map_err(text)?;
            match answer.split_once("\r\n\r\n") {
                Some((_, note)) if !note.is_empty() => return Ok(note.to_owned()),
                _ => sleep(Duration::from_millis(5)).await,
            }
        }
    }
}

impl Plan {
    fn draw(carrier: Carrier, least: usize, random: &mut Random) -> Self {
        let most = if carrier.has_connections() { 4 } else { 1 };
        let mut lanes: Vec<_> = (0..1 + random.next(most))
            .map(|_| Lane::draw(random))
            .collect();
        let stays = random.next(12) == 0;
        for lane in &mut lanes {
            if stays {
                lane.total = lane.total.min(4000);
            }
            if carrier == Carrier::Command {
                // The confirmation of its output waits behind the input that it does not read.
                lane.total = lane.total.min(200_000);
            }
        }
        let mut frames = vec![carrier.open(lanes.len())];
        let mut ends = vec![usize::MAX; lanes.len()];
        let mut sent = vec![0; lanes.len()];
        let mut open: Vec<_> = (0..lanes.len())
            .filter(|at| lanes[*at].has_input())
            .collect();
        let has_input = !open.is_empty();
        let fate = random.next(8);
        let breach = fate == 0 && has_input;
        let mut len = frames[0].len();
        while !open.is_empty() {
            let at = random.next(open.len() as u64) as usize;
            let lane = open[at];
            let left = lanes[lane].total - sent[lane];
            let frame = if left > 0 {
                let n = (1 + random.about()).min(left);
                let payload = bytes(sent[lane], n);
                sent[lane] += n;
                carrier.input(lane, &payload)
            } else {
                open.swap_remove(at);
                if breach {
                    continue;
                }
                ends[lane] = len + carrier.end_of_input(lane).len();
                carrier.end_of_input(lane)
            };
            len += frame.len();
            frames.push(frame);
        }
        if breach {
            frames.push(carrier.breach());
        }
        let cut = (fate == 1 || fate == 2 && has_input).then(|| {
            let how = [Leave::Shutdown, Leave::Drop][random.next(2) as usize];
            (random.next(len as u64 + 1) as usize, how)
        });
        let enough = (fate == 3).then(|| random.about());
        let script = Script {
            frames: merge(frames, least),
            cut,
            enough,
            least,
            pause: if stays { 700 } else { 0 },
            slow_writer: random.next(20) == 0,
            slow_reader: random.next(10) == 0,
        };
        Self {
            carrier,
            lanes,
            script,
            ends,
            breach,
        }
    }

    fn path(&self, name: &str) -> String {
        let lanes: Vec<_> = self.lanes.iter().map(Lane::to_string).collect();
        self.carrier.path(name, &lanes.join(","))
    }

    fn may_be_refused(&self) -> bool {
        let lane = self.lanes[0];
        !self.carrier.has_connections() && lane.total == 0 && !lane.succeeds()
    }
}

/// Puts frames together that are shorter than this.
fn merge(frames: Vec<Vec<u8>>, least: usize) -> Vec<Vec<u8>> {
    let mut merged: Vec<Vec<u8>> = Vec::new();
    for frame in frames {
        match merged.last_mut() {
            Some(last) if last.len() < least => last.extend(frame),
            _ => merged.push(frame),
        }
    }
    merged
}

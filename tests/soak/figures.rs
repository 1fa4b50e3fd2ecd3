//! The resources of the server's process.

use std::{fmt, fs, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::sleep,
};

use crate::server::Server;

/// The time in which everything that is over must be gone. The silence after a Close is bounded by
/// the server's `close_timeout`.
const REST: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) heap: u64,
    pub(crate) tasks: u64,
    pub(crate) sessions: u64,
    pub(crate) panics: u64,
    pub(crate) descriptors: u64,
    pub(crate) resident: u64,
}

impl Figures {
    /// Waits until nothing is left of any session, or for too long.
    pub(crate) async fn at_rest(server: &Server) -> Self {
        let pause = Duration::from_millis(50);
        let mut last = Self::now(server).await;
        for _ in 0..REST.as_millis() / pause.as_millis() {
            sleep(pause).await;
            let now = Self::now(server).await;
            // Its connection for these figures has a task of its own.
            if now.sessions == 0 && now.tasks <= 1 {
                return now.without_own_connection(server).await;
            }
            last = now;
        }
        last
    }

    /// Counts the descriptors again, because that of the connection for these figures may still have
    /// been there.
    async fn without_own_connection(mut self, server: &Server) -> Self {
        for _ in 0..10 {
            sleep(Duration::from_millis(20)).await;
            self.descriptors = self.descriptors.min(descriptors(server));
        }
        self
    }

    async fn now(server: &Server) -> Self {
        let mut stream = TcpStream::connect(&server.address).await.expect("a server");
        let request = "GET /figures HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream
            .write_all(request.as_bytes())
            .await
            .expect("a server");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        let mut numbers = body.split(' ').map(|n| n.parse().expect("a number"));
        let mut next = || numbers.next().expect("another figure");
        let process = server.child.id();
        let statm = fs::read_to_string(format!("/proc/{process}/statm")).expect("Linux");
        let pages: u64 = (statm.split(' ').nth(1))
            .and_then(|n| n.parse().ok())
            .expect("pages");
        Self {
            heap: next(),
            tasks: next(),
            sessions: next(),
            panics: next(),
            descriptors: descriptors(server),
            resident: pages * 4096,
        }
    }
}

fn descriptors(server: &Server) -> u64 {
    let folder = format!("/proc/{}/fd", server.child.id());
    fs::read_dir(folder).expect("Linux").count() as u64
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            heap,
            tasks,
            sessions,
            panics: _,
            descriptors,
            resident,
        } = self;
        write!(
            f,
            "heap {} KiB, resident {} KiB, {tasks} tasks, {descriptors} descriptors, {sessions} sessions",
            heap / 1024,
            resident / 1024,
        )
    }
}

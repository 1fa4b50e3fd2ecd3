//! The figures of a server's process.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use crate::server::Server;

/// The looks in a row with the same figures after which nothing more is expected to happen. Between
/// two looks, a server with one thread runs every task that is due.
const SETTLED: usize = 50;

/// The time that anything may take. Nothing waits for it, unless something is broken.
const PATIENCE: Duration = Duration::from_secs(30);

/// The resources of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    /// The bytes that were allocated and not freed.
    pub(crate) heap: u64,
    /// The tasks that tokio has to run.
    pub(crate) tasks: u64,
    pub(crate) descriptors: u64,
    pub(crate) threads: u64,
    /// The processes that it has started.
    pub(crate) processes: u64,
}

impl Figures {
    fn max(self, other: Self) -> Self {
        Self {
            heap: self.heap.max(other.heap),
            tasks: self.tasks.max(other.tasks),
            descriptors: self.descriptors.max(other.descriptors),
            threads: self.threads.max(other.threads),
            processes: self.processes.max(other.processes),
        }
    }

    /// Returns the figures without the heap, which must be the same after an attack as before.
    pub(crate) fn counts(self) -> Self {
        Self { heap: 0, ..self }
    }
}

/// A view of a server's process.
pub(crate) struct Gauge {
    reports: TcpStream,
    process: u32,
    /// The highest figures so far.
    pub(crate) highest: Figures,
    /// The bytes that were ever allocated, whether or not they are freed.
    pub(crate) allocated: u64,
}

impl Gauge {
    pub(crate) fn new(server: &Server) -> Self {
        let mut gauge = Self {
            reports: TcpStream::connect(&server.addresses[1]).unwrap(),
            process: server.child.id(),
            highest: Figures::default(),
            allocated: 0,
        };
        // From now on, its own connection is a part of all figures.
        gauge.look();
        gauge
    }

    /// Asks for the heap and the tasks. Every task that is due runs before the answer.
    pub(crate) fn look(&mut self) -> Figures {
        self.pass(0)
    }

    /// Lets this many seconds pass for the server, at once, and looks.
    pub(crate) fn pass(&mut self, seconds: u8) -> Figures {
        self.reports.write_all(&[seconds]).unwrap();
        let [heap, tasks, allocated] = [(); 3].map(|()| {
            let mut number = [0; 8];
            self.reports.read_exact(&mut number).unwrap();
            u64::from_le_bytes(number)
        });
        self.allocated = allocated;
        let seen = Figures {
            heap,
            tasks,
            ..Figures::default()
        };
        self.highest = self.highest.max(seen);
        seen
    }

    /// Returns all figures.
    pub(crate) fn read(&mut self) -> Figures {
        let entries = |name| {
            let folder = format!("/proc/{}/{name}", self.process);
            fs::read_dir(folder).unwrap().count() as u64
        };
        let (descriptors, threads) = (entries("fd"), entries("task"));
        let seen = Figures {
            descriptors,
            threads,
            processes: children(self.process),
            ..self.look()
        };
        self.highest = self.highest.max(seen);
        seen
    }

    /// Waits until nothing changes any more.
    pub(crate) fn settle(&mut self) -> Figures {
        let (mut last, mut same) = (self.look(), 0);
        while same < SETTLED {
            let next = self.look();
            same = if next == last { same + 1 } else { 0 };
            last = next;
        }
        self.read()
    }

    /// Waits for figures that are good, and returns the last ones in any case.
    pub(crate) fn until(&mut self, good: impl Fn(Figures) -> bool) -> Figures {
        let start = Instant::now();
        loop {
            let seen = self.settle();
            if good(seen) || start.elapsed() > PATIENCE {
                return seen;
            }
        }
    }

    /// Returns the bytes of memory that were ever resident at once.
    pub(crate) fn most_resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        number.unwrap().parse::<u64>().unwrap() * 1024
    }
}

/// Returns the number of processes that a process has started and not buried.
fn children(process: u32) -> u64 {
    let parent = |entry: fs::DirEntry| {
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let (_, fields) = stat.rsplit_once(')')?;
        fields.split_whitespace().nth(1)?.parse().ok()
    };
    let all = fs::read_dir("/proc").unwrap().map(Result::unwrap);
    all.filter_map(parent)
        .filter(|id: &u32| *id == process)
        .count() as u64
}

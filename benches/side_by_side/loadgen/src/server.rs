//! Server processes: their start, CPU clock and resident memory, and the use of the
//! machine by others. It reads `/proc`, so it is for Linux only.

use std::{
    fs,
    net::TcpStream,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
    time::{ClockId, clock_gettime},
};

use crate::{
    sampling::Peer,
    transport::{Place, Transport},
};

/// A server process, which is killed when this is dropped.
pub struct Server {
    child: Child,
    port: u16,
    transport: Transport,
}

impl Server {
    /// Starts a server. `{port}` in the command is replaced, and leading NAME=VALUE words
    /// are environment variables.
    pub fn start(peer: &Peer, port: u16) -> Result<Self, String> {
        let transport = Transport::of(&peer.name)?;
        let command = peer.command.replace("{port}", &port.to_string());
        let mut words = command.split_whitespace().peekable();
        let mut environment = vec![];
        while let Some(pair) = words.peek().and_then(|word| word.split_once('=')) {
            environment.push(pair);
            words.next();
        }
        let mut child = Command::new(words.next().ok_or("an empty command")?)
            .args(words)
            .envs(environment)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("{command}: {error}"))?;
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if started.elapsed() > Duration::from_secs(5) {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("{command} does not listen on {port}"));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(Self {
            child,
            port,
            transport,
        })
    }

    pub fn place(&self) -> Place {
        Place {
            address: ([127, 0, 0, 1], self.port).into(),
            transport: self.transport,
        }
    }

    /// Returns the CPU seconds of the process, user and system, over all live threads.
    pub fn cpu(&self) -> f64 {
        let Ok(threads) = fs::read_dir(format!("/proc/{}/task", self.child.id())) else {
            return f64::NAN;
        };
        let nanoseconds: f64 = threads
            .flatten()
            .filter_map(|thread| fs::read_to_string(thread.path().join("schedstat")).ok())
            .filter_map(|line| line.split_whitespace().next()?.parse::<f64>().ok())
            .sum();
        nanoseconds / 1e9
    }

    fn status(&self, key: &str) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let kib = status.unwrap_or_default().lines().find_map(|line| {
            let value = line.strip_prefix(key)?.split_whitespace().next()?;
            value.parse::<f64>().ok()
        });
        kib.unwrap_or(f64::NAN)
    }

    /// Returns the resident memory in KiB.
    pub fn resident(&self) -> f64 {
        self.status("VmRSS:")
    }

    /// Returns the peak of the resident memory in KiB.
    pub fn most_resident(&self) -> f64 {
        self.status("VmHWM:")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the CPU seconds of this process.
pub fn own_cpu() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// Returns the busy seconds of the whole machine over all cores, in steps of 10 ms.
pub fn machine_busy() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks: Vec<f64> = stat
        .lines()
        .next()
        .unwrap_or("")
        .split_whitespace()
        .skip(1)
        .filter_map(|word| word.parse().ok())
        .collect();
    match ticks[..] {
        [user, nice, system, _idle, _iowait, irq, softirq, steal, ..] => {
            (user + nice + system + irq + softirq + steal) / 100.0
        }
        _ => 0.0,
    }
}

/// Keeps this thread, and processes that it starts meanwhile, on one core. The other cores
/// are allowed again when this is dropped.
pub struct Pinned(CpuSet);

impl Pinned {
    pub fn to_one_core() -> rustix::io::Result<Self> {
        let before = sched_getaffinity(None)?;
        let mut one = CpuSet::new();
        if let Some(cpu) = (0..CpuSet::MAX_CPU).find(|cpu| before.is_set(*cpu)) {
            one.set(cpu);
        }
        sched_setaffinity(None, &one)?;
        Ok(Self(before))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = sched_setaffinity(None, &self.0);
    }
}

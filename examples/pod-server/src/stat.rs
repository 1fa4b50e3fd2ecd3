//! A look at the processes of this machine, in `/proc`.

use std::{ffi::OsStr, fs, io};

use rustix::{io::Errno, process::Pid};

/// The fields of `/proc/PID/stat` that matter here. The group and the session are 0 where they
/// are led from outside of this PID namespace, so they are plain numbers.
#[derive(Debug, PartialEq)]
pub(crate) struct Stat {
    state: u8,
    pub(crate) group: i32,
    pub(crate) session: i32,
}

impl Stat {
    /// Reads those of a process. `None` if there is no such process any more.
    pub(crate) fn read(process: Pid) -> io::Result<Option<Self>> {
        match fs::read(format!("/proc/{process}/stat")) {
            Ok(stat) => Ok(Self::parse(&stat)),
            Err(error) if is_short(&error) => Err(error),
            // As a rule there is no such process any more.
            Err(_) => Ok(None),
        }
    }

    /// Parses the text. The name in parentheses may hold anything, blanks and parentheses too;
    /// what follows the last parenthesis cannot.
    fn parse(stat: &[u8]) -> Option<Self> {
        let after = stat.iter().rposition(|&byte| byte == b')')? + 1;
        let mut fields = str::from_utf8(&stat[after..])
            .ok()?
            .split_ascii_whitespace();
        Some(Self {
            state: *fields.next()?.as_bytes().first()?,
            // Behind the parent.
            group: fields.nth(1)?.parse().ok()?,
            session: fields.next()?.parse().ok()?,
        })
    }

    pub(crate) fn is_of(&self, session: Pid) -> bool {
        self.session == session.as_raw_pid()
    }

    /// Returns whether the process is more than an entry that its parent has not read.
    pub(crate) fn is_alive(&self) -> bool {
        !matches!(self.state, b'Z' | b'X')
    }
}

/// Iterates over all processes.
pub(crate) fn processes() -> impl Iterator<Item = io::Result<Pid>> {
    let (entries, error) = match fs::read_dir("/proc") {
        Ok(entries) => (Some(entries), None),
        Err(error) => (None, is_short(&error).then_some(Err(error))),
    };
    let pid = |name: &OsStr| Pid::from_raw(name.to_str()?.parse().ok()?);
    let entries = entries.into_iter().flatten();
    let pids = entries.filter_map(move |entry| pid(&entry.ok()?.file_name()).map(Ok));
    error.into_iter().chain(pids)
}

/// Returns whether an error says nothing about a process, because there was no descriptor to
/// look with.
pub(crate) fn is_short(error: &io::Error) -> bool {
    let short = [Errno::MFILE, Errno::NFILE];
    short
        .map(|errno| Some(errno.raw_os_error()))
        .contains(&error.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_process_name_does_not_hide_its_session() {
        let stat = |state, group, session| Stat {
            state,
            group,
            session,
        };
        assert_eq!(
            Stat::parse(b"12 (a) S 1 2 3) R 1 12 34 0 -1 rest\n"),
            Some(stat(b'R', 12, 34))
        );
        assert_eq!(
            Stat::parse(b"12 (\xff\n) Z 1 12 34 0 -1"),
            Some(stat(b'Z', 12, 34))
        );
        assert_eq!(Stat::parse(b"12 (x) Z 1 12"), None);
        assert_eq!(Stat::parse(b""), None);
    }
}

//! The framer of Go's spdystream, which runs in a child process: we read its frames, and it reads
//! ours.
//!
//! The program is `differential.go`. The tests need Go and its module cache or proxy, so they are
//! ignored by default. The stage `framer` of `.ci/run` runs them.

use std::{
    fs,
    io::Write,
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::LazyLock,
    thread,
};

use super::{Control, Decoder, Frame, GoAwayStatus, Headers, Inflater, ResetStatus, Want};

const MAIN: &str = include_str!("differential.go");

const MODULE: &str = "module spdyframes
go 1.24
require github.com/moby/spdystream v0.5.1
";

/// The path of the program, which is built once.
static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
    let this = std::env::current_exe().expect("a test has a path");
    let folder = this.with_file_name("spdyframes");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("main.go"), MAIN).unwrap();
    fs::write(folder.join("go.mod"), MODULE).unwrap();
    let built = Command::new("go")
        .args(["build", "-o", "spdyframes", "."])
        .current_dir(&folder)
        .envs([
            ("GOFLAGS", "-mod=mod"),
            ("GOWORK", "off"),
            ("CGO_ENABLED", "0"),
        ])
        .output()
        .expect("Go is installed");
    assert!(built.status.success(), "{}", text(&built.stderr));
    folder.join("spdyframes")
});

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("the program writes UTF-8")
}

/// Runs the program with this input.
fn run(args: &[&str], input: Vec<u8>) -> Output {
    let mut child = Command::new(&*PROGRAM)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    output
}

/// Decodes a client's frames, in pieces of at most `cut` bytes, into the lines of the program.
fn lines(mut bytes: &[u8], cut: usize) -> Vec<String> {
    let (mut decoder, mut inflater) = (Decoder::new(), Inflater::default());
    let (mut len, mut sum) = (0, 0);
    let mut lines = Vec::new();
    while !bytes.is_empty() {
        let want = decoder.want();
        let (Want::Bytes(most) | Want::Data { left: most, .. } | Want::Skip { left: most }) = want;
        let (piece, rest) = bytes.split_at(most.min(cut).min(bytes.len()));
        bytes = rest;
        let frame = match want {
            Want::Bytes(_) => decoder.feed(piece).expect("Go breaks no rule"),
            Want::Data { .. } => {
                len += piece.len();
                sum += piece.iter().map(|&byte| usize::from(byte)).sum::<usize>();
                decoder.took(piece.len())
            }
            Want::Skip { .. } => decoder.took(piece.len()),
        };
        lines.push(match frame {
            None => continue,
            Some(Frame::Control(Control::SynStream {
                stream,
                fin,
                unidirectional,
                block,
            })) => {
                let headers = fields(inflater.block(block).unwrap());
                format!("syn {stream} {fin} {unidirectional} {headers}")
            }
            Some(Frame::Control(Control::Block { block })) => {
                format!("block {}", fields(inflater.block(block).unwrap()))
            }
            Some(Frame::Control(Control::RstStream { stream })) => format!("rst {stream}"),
            Some(Frame::Control(Control::Ping { id })) => format!("ping {id}"),
            Some(Frame::Control(Control::GoAway)) => "goaway".to_owned(),
            Some(Frame::Data { stream, fin }) => {
                let line = format!("data {stream} {fin} {len} {sum}");
                (len, sum) = (0, 0);
                line
            }
        });
    }
    lines
}

fn fields(block: &[u8]) -> String {
    let headers = Headers::read(block).expect("Go's headers are within our bounds");
    let names = ["cookie", "port", "requestid", "streamtype", "x-a"];
    let fields = names.iter().filter_map(|name| {
        let value = headers.get(name)?;
        Some(format!("{name}={}", text(value)))
    });
    fields.collect::<Vec<_>>().join(",")
}

#[test]
#[ignore = "needs Go"]
fn we_read_the_frames_of_gos_framer() {
    for seed in 0..20 {
        let output = run(&["write", &seed.to_string(), "500"], Vec::new());
        let expected: Vec<_> = text(&output.stderr).lines().map(str::to_owned).collect();
        assert!(expected.len() > 300);
        for cut in [1, 7, 1000, usize::MAX] {
            assert_eq!(lines(&output.stdout, cut), expected, "seed {seed}, {cut}");
        }
    }
}

#[test]
#[ignore = "needs Go"]
fn gos_framer_reads_our_frames() {
    let (mut frames, mut expected) = (Vec::new(), String::new());
    for n in 0..1000 {
        let stream = 2 * n + 1;
        super::syn_reply(&mut frames, stream, n == 0);
        super::data_head(&mut frames, stream, false, n as usize);
        frames.resize(frames.len() + n as usize, b'x');
        super::fin(&mut frames, stream);
        super::rst_stream(&mut frames, stream, ResetStatus::RefusedStream);
        super::ping(&mut frames, stream + 1);
        expected += &format!(
            "reply {stream} 0\ndata {stream} false {n}\ndata {stream} true 0\nrst {stream} 3\nping {}\n",
            stream + 1
        );
    }
    for (status, code) in [
        (GoAwayStatus::Ok, 0),
        (GoAwayStatus::ProtocolError, 1),
        (GoAwayStatus::InternalError, 2),
    ] {
        super::go_away(&mut frames, 1999, status);
        expected += &format!("goaway 1999 {code}\n");
    }
    let output = run(&["read"], frames);
    assert_eq!(text(&output.stdout), expected);
}

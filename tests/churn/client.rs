//! The client of a WebSocket, which writes and reads at the same time.

mod reader;
mod writer;

use std::pin::pin;

use bytes::BytesMut;
use futures_util::future::{Either, select};
use tokio::io::{AsyncRead, AsyncWrite};

use self::{reader::Reader, writer::Writer};
pub(crate) use self::{
    reader::{CLOSE, Frame, PING, parse},
    writer::{BINARY, FIN, frame, pong},
};
use crate::{
    facts::Shared,
    halves::{Line, Wishes, Writing},
    plan::Plan,
};

/// Runs a client whose handshake is over. `early` are bytes that came with the answer.
pub(crate) async fn run<T>(plan: &Plan, facts: &Shared, io: T, early: BytesMut)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let (read, write) = tokio::io::split(io);
    let wishes = Wishes::default();
    let reader = Reader::new(plan, facts, &wishes).run(read, early);
    let writer = Writer::new(Line::new(plan, facts, &wishes, write)).follow();
    // The writer returns only when it cuts the connection, which drops both halves.
    match select(pin!(writer), pin!(reader)).await {
        Either::Left(((), _)) | Either::Right(((), _)) => {}
    }
}

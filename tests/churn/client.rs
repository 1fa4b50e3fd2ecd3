//! The client of a WebSocket, which writes and reads at the same time.

mod reader;
mod writer;

use std::{cell::RefCell, collections::VecDeque, pin::pin};

use bytes::BytesMut;
use futures_util::future::{Either, select};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Notify,
};

use self::{reader::Reader, writer::Writer};
use crate::{facts::Shared, plan::Plan};

/// What the reading half asks the writing half for.
#[derive(Debug)]
pub(crate) enum Wish {
    Frame(Vec<u8>),
    /// The answer to the server's Close.
    Close(Option<u16>),
    Fin,
    Cut,
}

/// The wishes that wait.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    all: RefCell<VecDeque<Wish>>,
    pub(crate) more: Notify,
}

impl Wishes {
    pub(crate) fn push(&self, wish: Wish) {
        self.all.borrow_mut().push_back(wish);
        self.more.notify_one();
    }

    pub(crate) fn pop(&self) -> Option<Wish> {
        self.all.borrow_mut().pop_front()
    }
}

/// Runs a client whose handshake is over. `early` are bytes that came with the answer.
pub(crate) async fn run<T>(plan: &Plan, facts: &Shared, io: T, early: BytesMut)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let (read, write) = tokio::io::split(io);
    let wishes = Wishes::default();
    let reader = Reader::new(plan, facts, &wishes, read, early).run();
    let writer = Writer::new(plan, facts, &wishes, write).run();
    // The writer returns only when it cuts the connection, which drops both halves.
    match select(pin!(writer), pin!(reader)).await {
        Either::Left(((), _)) | Either::Right(((), _)) => {}
    }
}

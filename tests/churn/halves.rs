//! The two halves of a client, whatever its protocol: one follows the plan and writes, the other reads.

use std::{cell::RefCell, collections::VecDeque, pin::pin, time::Duration};

use bytes::{BufMut, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::Notify,
    time::sleep,
};

use crate::{
    client::{BINARY, FIN, frame},
    facts::{Done, Shared},
    plan::{Act, Farewell, Millis, Plan},
};

/// A request of the reading half to the writing half.
#[derive(Debug)]
pub(crate) enum Wish {
    Frame(Vec<u8>),
    /// A frame of the WebSocket around SPDY.
    Outer(Vec<u8>),
    /// The answer to the server's Close.
    Close(Option<u16>),
    Fin,
    Cut,
}

/// The wishes that wait.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    all: RefCell<VecDeque<Wish>>,
    more: Notify,
}

impl Wishes {
    pub(crate) fn push(&self, wish: Wish) {
        self.all.borrow_mut().push_back(wish);
        self.more.notify_one();
    }

    fn pop(&self) -> Option<Wish> {
        self.all.borrow_mut().pop_front()
    }
}

/// The connection is to be cut.
pub(crate) struct Cut;

/// The client's direction of the connection.
pub(crate) struct Line<'a, W> {
    pub(crate) plan: &'a Plan,
    pub(crate) facts: &'a Shared,
    wishes: &'a Wishes,
    io: W,
    /// Nothing more can be sent.
    pub(crate) gone: bool,
}

impl<'a, W: AsyncWrite + Unpin> Line<'a, W> {
    pub(crate) fn new(plan: &'a Plan, facts: &'a Shared, wishes: &'a Wishes, io: W) -> Self {
        Self {
            plan,
            facts,
            wishes,
            io,
            gone: false,
        }
    }

    pub(crate) fn note(&self, done: Done) {
        self.facts.borrow_mut().note(done);
    }

    /// Writes bytes in pieces, of which each is a message in a tunnel.
    pub(crate) async fn put(&mut self, bytes: &[u8], piece: usize) {
        for piece in bytes.chunks(piece.max(1)) {
            match self.plan.setup.is_tunnel() {
                true => self.put_outer(&frame(FIN | BINARY, piece)).await,
                false => self.put_outer(piece).await,
            }
            if piece.len() < bytes.len() {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Writes bytes as they are.
    pub(crate) async fn put_outer(&mut self, bytes: &[u8]) {
        if self.gone {
            return;
        }
        if self.io.write_all(bytes).await.is_err() || self.io.flush().await.is_err() {
            self.gone = true;
        }
    }

    pub(crate) async fn fin(&mut self) {
        if !self.gone {
            self.note(Done::Fin);
            let _ = self.io.shutdown().await;
        }
        self.gone = true;
    }
}

/// The writing half, which follows the plan and grants the wishes of the reading half.
pub(crate) trait Writing<'a>: Sized {
    type Io: AsyncWrite + Unpin;

    fn line(&mut self) -> &mut Line<'a, Self::Io>;

    /// Takes a step of the plan.
    async fn act(&mut self, act: Act) -> Result<(), Cut>;

    /// Answers the server's Close.
    async fn answer(&mut self, code: Option<u16>);

    /// Follows the plan. Returns when the connection is to be cut, and only then.
    async fn follow(mut self) {
        let Cut = self.follow_until_cut().await;
        self.line().note(Done::Cut);
    }

    async fn follow_until_cut(&mut self) -> Cut {
        for act in &self.line().plan.client {
            if let Err(cut) = self.act(*act).await {
                return cut;
            }
        }
        loop {
            if let Err(cut) = self.grant().await {
                return cut;
            }
            self.line().wishes.more.notified().await;
        }
    }

    /// Grants the wishes that wait.
    async fn grant(&mut self) -> Result<(), Cut> {
        while let Some(wish) = self.line().wishes.pop() {
            match wish {
                Wish::Frame(frame) => self.line().put(&frame, usize::MAX).await,
                Wish::Outer(frame) => self.line().put_outer(&frame).await,
                Wish::Close(code) => self.answer(code).await,
                Wish::Fin => self.line().fin().await,
                Wish::Cut => return Err(Cut),
            }
        }
        Ok(())
    }

    /// Waits, but not for wishes.
    async fn wait(&mut self, time: Millis) -> Result<(), Cut> {
        let mut over = pin!(sleep(Duration::from_millis(time)));
        loop {
            self.grant().await?;
            tokio::select! {
                biased;
                () = &mut over => return Ok(()),
                () = self.line().wishes.more.notified() => {}
            }
        }
    }
}

/// Reads to the end of the connection, at the pace of the plan, and stays a little longer. `take` takes
/// complete frames out of the buffer.
pub(crate) async fn read(
    plan: &Plan,
    facts: &Shared,
    mut io: impl AsyncRead + Unpin,
    mut buf: BytesMut,
    mut take: impl FnMut(&mut BytesMut),
) {
    let mut paces = plan.reads.iter();
    loop {
        take(&mut buf);
        let mut most = usize::MAX;
        if let Some((piece, wait)) = paces.next() {
            most = (*piece).max(1);
            if *wait > 0 {
                sleep(Duration::from_millis(*wait)).await;
            }
        }
        let mut room = (&mut buf).limit(most);
        match io.read_buf(&mut room).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    facts.borrow_mut().read_to_end = true;
    if let Farewell::Silence(time) = plan.setup.farewell {
        sleep(Duration::from_millis(time)).await;
    }
}

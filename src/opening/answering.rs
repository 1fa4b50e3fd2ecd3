//! From a request for an upgrade to its answer: where the table of subprotocols takes time,
//! that comes first.

use std::{
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use http::{Response, request::Parts};
use tower_service::Service;

use super::{
    accepting::{Accepting, Patience, SERVICE},
    agreement::Valid,
};
use crate::{
    channel::ChannelSet,
    error::BoxError,
    handshake::{
        detect::Upgrade,
        source::{Source, TableFuture, ask},
    },
    rejection::Rejection,
    session::SessionConfig,
    unwind::{Quiet, catch},
};

/// A valid request for an upgrade that is not answered yet.
#[allow(clippy::large_enum_variant, reason = "a future in a box holds the one")]
pub(crate) enum Answering<S> {
    LookingUp(LookingUp<S>),
    Accepting(Accepting<S>),
}

impl<S> Answering<S> {
    /// Judges the head, and makes the service of the session once that is worth it.
    pub(crate) fn begin(
        upgrade: Upgrade,
        head: Box<Parts>,
        source: &Source,
        config: &Arc<SessionConfig>,
        service: impl FnOnce() -> S,
    ) -> Result<Self, Rejection> {
        let service = Quiet::new(service, SERVICE);
        let make = || {
            catch(service.into_inner())
                .map_err(|_| Rejection::panicked("the clone of the inner service"))
        };
        let valid = Valid::judge(upgrade, head, config)?;
        Ok(match source {
            Source::Now(source) => {
                let table = ask(|| source.protocols(valid.head()))?;
                let agreed = valid.select(&table)?;
                Self::Accepting(Accepting::new(make()?, agreed, Patience::default()))
            }
            Source::Later(source) => {
                let table = ask(|| Ok(source(valid.head())))?;
                Self::LookingUp(LookingUp {
                    table: Mutex::new(Quiet::new(table, "the look-up of the subprotocols")),
                    found: Some((valid, Quiet::new(make()?, SERVICE))),
                    patience: Patience::default(),
                })
            }
        })
    }
}

impl<S> Answering<S>
where
    S: Service<ChannelSet, Response = ()>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    pub(crate) fn poll<B: Default>(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response<B>, Rejection>> {
        loop {
            match self {
                Self::LookingUp(looking_up) => {
                    let accepting = ready!(looking_up.poll(cx))?;
                    *self = Self::Accepting(accepting);
                }
                Self::Accepting(accepting) => return accepting.poll(cx),
            }
        }
    }
}

/// The table is being looked up.
pub(crate) struct LookingUp<S> {
    /// Never locked: the mutex makes a future that is `Send` alone `Sync` as well.
    table: Mutex<Quiet<TableFuture>>,
    /// Until there is a table.
    found: Option<(Valid, Quiet<S>)>,
    patience: Patience,
}

impl<S> LookingUp<S> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Accepting<S>, Rejection>> {
        let table = self.table.get_mut().unwrap_or_else(PoisonError::into_inner);
        let polled = match ask(|| Ok(table.get_mut().as_mut().poll(cx))) {
            Ok(polled) => polled,
            Err(rejection) => Poll::Ready(Err(rejection)),
        };
        let Some((valid, _)) = &self.found else {
            panic!("polled after it was ready");
        };
        let table = match polled {
            Poll::Ready(table) => table?,
            Poll::Pending => {
                ready!(self.patience.poll(valid.accept_timeout(), cx));
                return Poll::Ready(Err(Rejection::not_ready(
                    "the server did not find out in time which subprotocols there are: try again later",
                )));
            }
        };
        let Some((valid, service)) = self.found.take() else {
            panic!("polled after it was ready");
        };
        valid.refuse_if_draining()?;
        let agreed = valid.select(&table)?;
        let patience = std::mem::take(&mut self.patience);
        Poll::Ready(Ok(Accepting::new(service.into_inner(), agreed, patience)))
    }
}

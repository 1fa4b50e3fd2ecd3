//! The service of a reader's session, which sends a body as messages.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::Body;
use tower_service::Service;

use crate::{
    BoxError, ChannelSet, ChannelWriter, Session,
    unwind::{catch, quietly},
};

/// The only channel of a reader's subprotocols.
const OUTPUT: u8 = 0;

/// The service of a session that sends a body.
pub(crate) struct Messages<B> {
    body: Option<B>,
    ping: bool,
    message: usize,
}

impl<B> Messages<B> {
    pub(super) fn new(body: B, ping: bool, message: usize) -> Self {
        Self {
            body: Some(body),
            ping,
            message,
        }
    }
}

impl<B> Service<ChannelSet> for Messages<B>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = ();
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, channels: ChannelSet) -> Self::Future {
        let body = self.body.take();
        let (ping, message) = (self.ping, self.message);
        Box::pin(async move {
            let body = body.ok_or("a body is sent once")?;
            send(channels, body, ping, message).await
        })
    }
}

async fn send<B>(
    mut channels: ChannelSet,
    body: B,
    ping: bool,
    message: usize,
) -> Result<(), BoxError>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let session = channels.session().clone();
    let mut output = channels.take_writer(OUTPUT).ok_or("no channel to write")?;
    drop(channels);
    if ping {
        output.send(Bytes::new()).await?;
    }
    let mut body = pin!(Some(body));
    let sent = match body.as_mut().as_pin_mut() {
        Some(body) => send_all(&session, &mut output, body, message).await,
        None => Ok(()),
    };
    // The body has ended, so a panic in its drop has no effect on the session.
    quietly("a body", || body.set(None));
    sent
}

async fn send_all<B>(
    session: &Session,
    output: &mut ChannelWriter,
    mut body: Pin<&mut B>,
    message: usize,
) -> Result<(), BoxError>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let mut ended = pin!(session.ended());
    loop {
        let next = poll_fn(|cx| {
            if let Poll::Ready(cause) = ended.as_mut().poll(cx) {
                // Not `Ok`: the rest of the body was not sent.
                return Poll::Ready(Some(Err(BoxError::from(cause))));
            }
            // A panic that left this function would drop the body while it unwinds, and a second
            // panic in that drop would abort the process.
            let next = catch(|| {
                let frame = body.as_mut().poll_frame(cx);
                frame.map(|frame| frame.map(|frame| frame.map_err(Into::into)))
            });
            match next {
                Ok(frame) => frame,
                Err(_) => Poll::Ready(Some(Err("the body panicked".into()))),
            }
        });
        match next.await {
            None => return Ok(()),
            // Trailers are not sent.
            Some(frame) => {
                if let Ok(data) = frame?.into_data() {
                    send_data(output, data, message).await?;
                }
            }
        }
    }
}

async fn send_data(
    output: &mut ChannelWriter,
    mut data: Bytes,
    message: usize,
) -> Result<(), BoxError> {
    while !data.is_empty() {
        let piece = data.split_to(data.len().min(message));
        output.send(piece).await?;
    }
    Ok(())
}

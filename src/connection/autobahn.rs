//! The endpoint for the Autobahn suite: echoes whole messages with their
//! opcode, through the session's own driver, lock and closing.
//!
//! The suite knows no channels, so a session runs in a mode that exists in
//! tests only: every message is the payload of channel 0, and is announced when
//! it is complete. `tests/autobahn/run` starts this.

use std::{
    convert::Infallible,
    env,
    io::{Read as _, Write as _},
};

use bytes::{BufMut, Bytes, BytesMut};
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::AsyncReadExt,
    net::TcpListener,
    sync::{Mutex, mpsc},
};
use tower::{Service, ServiceBuilder};

use crate::{
    BoxError, ChannelProtocols, ChannelSet, ChannelType, WsStreamLayer, frame::MessageKind,
    mux::Whole, policy::Limits,
};

/// The largest message of groups 1 to 7 fits: a message is announced only when
/// all of it is in the window.
const WINDOW: usize = 1024 * 1024;

type Body = crate::body::ResponseBody<crate::body::ResponseBody<crate::body::NoBody>>;

type Messages = std::sync::Arc<Mutex<mpsc::UnboundedReceiver<(MessageKind, usize)>>>;

async fn echo(mut channels: ChannelSet, messages: Messages) -> Result<(), BoxError> {
    let (Some(mut reader), Some(mut writer)) = (channels.take_reader(0), channels.take_writer(0))
    else {
        return Err("channel 0 is both".into());
    };
    let mut messages = messages.lock().await;
    let ended = channels.session().ended();
    tokio::pin!(ended);
    loop {
        let (kind, len) = tokio::select! {
            biased;
            message = messages.recv() => match message {
                Some(message) => message,
                None => return Ok(()),
            },
            _ = &mut ended => return Ok(()),
        };
        let mut message = BytesMut::with_capacity(1 + len);
        message.put_u8(if kind == MessageKind::Text { 1 } else { 2 });
        message.put_bytes(0, len);
        reader.read_exact(&mut message[1..]).await?;
        let message: Bytes = message.freeze();
        writer.send(message).await?;
    }
}

async fn handle(mut request: Request<Incoming>) -> Result<http::Response<Body>, Infallible> {
    let (sender, receiver) = mpsc::unbounded_channel();
    request.extensions_mut().insert(Whole {
        messages: sender,
        current: (MessageKind::Binary, 0),
    });
    let messages = Messages::new(Mutex::new(receiver));
    let protocols = ChannelProtocols::standard([ChannelType::ReadWrite]);
    let limits = Limits::default().receive_window(WINDOW);
    let mut service = ServiceBuilder::new()
        .layer(WsStreamLayer::new(protocols.expect("one channel")).limits(limits))
        .service_fn(move |channels| echo(channels, messages.clone()));
    service.call(request).await
}

#[tokio::test]
#[ignore = "needs the Autobahn suite: run tests/autobahn/run"]
async fn serve() -> Result<(), BoxError> {
    let address = env::var("WSSTREAM_AUTOBAHN_ADDR").unwrap_or_else(|_| "127.0.0.1:0".into());
    let listener = TcpListener::bind(address).await?;
    println!("autobahn endpoint on {}", listener.local_addr()?);
    std::io::stdout().flush()?;
    // Serves until its standard input ends.
    let (end, mut ended) = mpsc::unbounded_channel::<()>();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        drop(end);
    });
    loop {
        let (stream, _) = tokio::select! {
            accepted = listener.accept() => accepted?,
            _ = ended.recv() => return Ok(()),
        };
        tokio::spawn(
            hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(handle))
                .with_upgrades(),
        );
    }
}

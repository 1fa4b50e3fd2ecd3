//! A close that is asked for before the acceptance.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_close_before_the_acceptance_is_the_close_of_the_session() {
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Then {
        Accepts,
        Returns,
        Fails,
        Nothing,
    }
    for then in [Then::Accepts, Then::Returns, Then::Fails, Then::Nothing] {
        let service = explicit(move |mut set: ChannelSet| async move {
            let mut stdout = set.take_writer(1).unwrap();
            look_up().await;
            let session = set.session().clone();
            session.close(4000, "enough").unwrap();
            let error = stdout.write(b"x").await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
            match then {
                Then::Accepts => {
                    session.accept().await;
                    session.ended().await;
                    Ok(())
                }
                Then::Returns => Ok(()),
                Then::Fails => Err(Rejection::new(StatusCode::GONE, "gone").into()),
                Then::Nothing => pending().await,
            }
        });
        match then {
            Then::Accepts | Then::Returns => {
                let transcript = told(service).await;
                assert_eq!(transcript.close_code, Some(4000), "{then:?}");
                assert!(transcript.messages.is_empty());
                // Waits until the tasks of the connection have ended.
                sleep(LONG).await;
            }
            Then::Fails => {
                refused(service, &Head::to("/"), 410, RejectionKind::Custom).await;
            }
            Then::Nothing => {
                refused(service, &Head::to("/"), 504, RejectionKind::NotReady).await;
            }
        }
    }
}

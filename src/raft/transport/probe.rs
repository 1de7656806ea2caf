//! Looking whether a member's process is there: one fresh connection, on which it has to say who it is and answer a question.
//!
//! A long-lived connection that breaks says little: a process that ends closes them one by one, and so does a network. What a
//! *new* one meets says more, and nothing here guesses: what is neither a refusal nor the member's own word is no answer.

use std::io::ErrorKind;

use bytes::Bytes;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout_at};

use super::client::{Dialler, Unwelcome};

/// What a fresh connection to a member met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// The member itself, and what it answered.
    Answered(Bytes),
    /// Its host, which says that nobody listens there.
    Refused,
    /// Somebody who took the connection and did not say who it is: a process that is just ending, one that is stuck, or a
    /// proxy, which takes connections for members that are gone.
    Mute,
    /// Nobody: no route, no name, no answer in time; or a member that is not the one that was meant, or too slow to answer.
    Nothing,
}

/// Dials a peer once and asks it something, until `deadline`.
pub(super) async fn probe(dialler: Dialler, question: Bytes, deadline: Instant) -> Probe {
    let stream = match timeout_at(deadline, connect(dialler.peer.address())).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(probe)) => return probe,
        Err(_) => return Probe::Nothing,
    };
    match timeout_at(deadline, dialler.introduce(stream)).await {
        Ok(Ok(connected)) => match timeout_at(deadline, connected.ask_once(question)).await {
            Ok(Some(answer)) => Probe::Answered(answer),
            Ok(None) | Err(_) => Probe::Nothing,
        },
        Ok(Err(Unwelcome::Stranger(_))) => Probe::Nothing,
        Ok(Err(Unwelcome::Mute(_))) | Err(_) => Probe::Mute,
    }
}

/// Connects to the first of a host's addresses that takes it. Refused only when all of them refuse.
async fn connect(address: &str) -> Result<TcpStream, Probe> {
    let found: Vec<_> = lookup_host(address).await.map_err(|_| Probe::Nothing)?.collect();
    let mut refusals = 0;
    for address in &found {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => refusals += 1,
            Err(_) => {}
        }
    }
    Err(if refusals > 0 && refusals == found.len() { Probe::Refused } else { Probe::Nothing })
}

//! The connection to the API server.

use std::error::Error as _;
use std::time::Duration;

use kube::config::InferConfigError;
use kube::{Client, Config};
use thiserror::Error;

use crate::operator::causes::causes;

/// A pod without a way to the API server finds that out so soon.
const CONNECT: Duration = Duration::from_secs(5);

/// Why there is no way to the API server, and never will be while this process runs.
#[derive(Debug, Error)]
pub enum NoApiServer {
    #[error(
        "cannot find the Kubernetes API server: this is no pod whose ServiceAccount token is mounted, and {0}; set KUBECONFIG to \
         a file that kubectl can use"
    )]
    Config(String),
    #[error("cannot use what is configured for the Kubernetes API server: {0}")]
    Client(String),
}

impl From<InferConfigError> for NoApiServer {
    fn from(error: InferConfigError) -> Self {
        // Its own text quotes the kubeconfig.
        Self::Config(error.source().map_or_else(|| causes(&error), causes))
    }
}

impl From<kube::Error> for NoApiServer {
    fn from(error: kube::Error) -> Self {
        Self::Client(causes(&error))
    }
}

/// A connection on which nothing comes for so long is given up: longer than a watch may be quiet. kube takes the first time for
/// the end of a watch, and only the second, when it asks for another, for an error.
const SILENCE: Duration = Duration::from_secs(12);

/// The API server, as a pod's ServiceAccount or a kubeconfig file say. Nothing is connected before it is used.
#[derive(Clone)]
pub struct ApiServer {
    pub(in crate::operator) client: Client,
}

impl ApiServer {
    /// # Errors
    /// When nothing says where it is, or what says so cannot be used.
    pub async fn infer() -> Result<Self, NoApiServer> {
        let mut config = Config::infer().await?;
        config.connect_timeout = Some(CONNECT);
        (config.read_timeout, config.reset_reader_on_write) = (Some(SILENCE), true);
        // Whoever asks tries again itself, and says so.
        config.default_retry = false;
        Ok(Self { client: Client::try_from(config)? })
    }
}

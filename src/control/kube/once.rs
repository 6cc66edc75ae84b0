//! One object of the API server at a time, for sub-commands that look once and end.

use std::time::Duration;

use hyper::Request;
use hyper::header::CONTENT_TYPE;
use kube::Client;
use serde_json::Value;
use tokio::time::timeout;

use super::api::Status;
use super::config::Connect;
use super::trouble::Trouble;
use crate::limits::KUBE_ANSWER_SECONDS_MAX;

/// The API server, to be asked a few times.
pub struct Once {
    client: Client,
}

impl Once {
    /// Reads files and the environment. Blocks on the disk.
    ///
    /// # Errors
    /// What is missing or cannot be understood.
    pub fn new(connect: &Connect) -> Result<Self, Trouble> {
        let config = connect.config().map_err(Trouble::Config)?;
        let client = Client::try_from(config).map_err(|error| match Trouble::of_error(&error) {
            Trouble::Broken(_) => Trouble::Config(error.to_string()),
            other => other,
        })?;
        Ok(Self { client })
    }

    /// What is at a path.
    ///
    /// # Errors
    /// There was no answer in time, or it was no 200.
    pub async fn get(&self, path: &str) -> Result<Value, Trouble> {
        self.send(Request::get(path).body(Vec::new()), path).await
    }

    /// The whole text that is at a path.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn text(&self, path: &str) -> Result<String, Trouble> {
        let request = Request::get(path).body(Vec::new());
        let request = request.map_err(|error| Trouble::Config(format!("{path}: {error}")))?;
        in_time(self.client.request_text(request)).await
    }

    /// What comes of posting an object.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn post(&self, path: &str, object: &Value) -> Result<Value, Trouble> {
        let request = Request::post(path).header(CONTENT_TYPE, "application/json");
        self.send(request.body(object.to_string().into_bytes()), path).await
    }

    async fn send(
        &self,
        request: Result<Request<Vec<u8>>, hyper::http::Error>,
        path: &str,
    ) -> Result<Value, Trouble> {
        let request = request.map_err(|error| Trouble::Config(format!("{path}: {error}")))?;
        in_time(self.client.request::<Value>(request)).await
    }
}

async fn in_time<T>(asked: impl Future<Output = kube::Result<T>>) -> Result<T, Trouble> {
    let patience = Duration::from_secs(KUBE_ANSWER_SECONDS_MAX);
    let answer = timeout(patience, asked).await.map_err(|_| Trouble::TimedOut)?;
    answer.map_err(|error| match error {
        kube::Error::Api(status) => {
            let kube::core::Status { code, message, reason, .. } = *status;
            Status { code, message, reason, ..Status::default() }.trouble(None)
        }
        error => Trouble::of_error(&error),
    })
}

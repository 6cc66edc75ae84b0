//! All objects of a kind at once, for sub-commands that look once and end.

use std::fmt::Display;
use std::time::Duration;

use hyper::Request;
use kube::Client;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::timeout;

use super::config::Connect;
use super::request::Selectors;
use crate::cluster::object::{Kind, Object};
use crate::limits::KUBE_ANSWER_SECONDS_MAX;

/// A page of a list.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Page {
    metadata: PageMeta,
    items: Vec<Value>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PageMeta {
    r#continue: String,
}

/// Lists all objects of `kinds`, page by page. An object that cannot be read is left out. Costs: all of
/// them in memory.
///
/// # Errors
/// One line: the server cannot be reached, does not answer in time, or refuses.
pub async fn all(connect: &Connect, kinds: &[Kind]) -> Result<Vec<Object>, String> {
    let config = connect.config()?;
    let client = Client::try_from(config).map_err(|error| error.to_string())?;
    let patience = Duration::from_secs(KUBE_ANSWER_SECONDS_MAX);
    let mut objects = Vec::new();
    for kind in kinds {
        let mut next = String::new();
        loop {
            let target = Selectors::default().list(*kind, &next);
            let request = Request::get(&target).body(Vec::new()).map_err(|e| e.to_string())?;
            let page = timeout(patience, client.request::<Page>(request)).await;
            let failed = |error: &dyn Display| format!("{}: {error}", kind.resource());
            let page = page.map_err(|_| failed(&"the API server does not answer"))?;
            let page = page.map_err(|error| failed(&error))?;
            let read = |item: &Value| Object::read(*kind, item).ok();
            objects.extend(page.items.iter().filter_map(read));
            if page.metadata.r#continue.is_empty() {
                break;
            }
            next = page.metadata.r#continue;
        }
    }
    Ok(objects)
}

//! Calls a Celery task from Rust and awaits its result, with a deadline, over the crate `elk-mq` as it is.
//!
//!     cargo run -- shop.add '[2, 3]'
//!
//! Arguments: the task, its arguments as JSON (`[...]`, `{...}`, or `{"args": [...], "kwargs": {...}}`), seconds to wait
//! (10), and the queue (`celery`). `ELKMQ_URL` says where Redis is. The worker is any Celery worker whose `broker_url` is
//! `elkmq://` and the same server; `../shop.py` is one.
//!
//! It prints the result. Its exit status is 1 where the task failed and 2 where nothing came in time: then a worker that has
//! not begun will not begin, and one that has is stopped by the task's time limit.

use elk_mq::{EventQueue, EventQueueError, ServiceEvent};
use serde_json::Value;
use std::env;
use std::process::exit;

/// The action of a response that tells of a failure; its payload is JSON with `type` and `message`.
const FAILURE: &str = "elkmq.error";

enum Failed {
    /// The task raised: the exception's type and text.
    Task(String, String),
    /// Nothing came in time.
    Late,
    /// Anything else: Redis cannot be reached, say.
    Queue(EventQueueError),
}

/// Calls a task and awaits its result for so many seconds. The time limit is the broker's too: see the module's text.
fn call(queue: &mut EventQueue, task: &str, arguments: &str, seconds: u16) -> Result<Value, Failed> {
    let request = ServiceEvent::new(seconds, task, Some(arguments.to_string()));
    let response = queue.await_response(&request).map_err(|error| match error {
        EventQueueError::TimeoutExpired => Failed::Late,
        other => Failed::Queue(other),
    })?;
    let payload = response.event().payload().unwrap_or_else(|| "null".to_string());
    let found: Value = serde_json::from_str(&payload).unwrap_or(Value::String(payload));
    if response.event().action() == FAILURE {
        let text = |name: &str| found[name].as_str().unwrap_or_default().to_string();
        return Err(Failed::Task(text("type"), text("message")));
    }
    Ok(found)
}

fn main() {
    let given: Vec<String> = env::args().skip(1).collect();
    if given.is_empty() || given.len() > 4 || given[0] == "--help" {
        eprintln!("usage: call-a-celery-task TASK [ARGUMENTS [SECONDS [QUEUE]]]");
        exit(64);
    }
    let argument = |n: usize, otherwise: &str| given.get(n).cloned().unwrap_or_else(|| otherwise.to_string());
    let url = env::var("ELKMQ_URL").unwrap_or_else(|_| "redis://127.0.0.1".to_string());
    let seconds: u16 = argument(2, "10").parse().ok().filter(|n| *n > 0).unwrap_or_else(|| {
        eprintln!("SECONDS is a whole number from 1 to 65535");
        exit(64)
    });
    let mut queue = EventQueue::new(&argument(3, "celery"), &url);
    match call(&mut queue, &given[0], &argument(1, "[]"), seconds) {
        Ok(result) => println!("{result}"),
        Err(Failed::Task(kind, message)) => {
            eprintln!("{} failed: {kind}: {message}", given[0]);
            exit(1)
        }
        Err(Failed::Late) => {
            eprintln!("{} did not answer within {seconds} s", given[0]);
            exit(2)
        }
        Err(Failed::Queue(error)) => {
            eprintln!("{error:?}");
            exit(3)
        }
    }
}

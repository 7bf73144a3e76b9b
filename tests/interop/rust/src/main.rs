//! A client of the original, the crate `elk-mq`, told what to do line by line: `original QUEUE URL`.
//!
//! Each line of its input is a JSON object, each line of its output the answer, `{"returned": …}` or `{"raised": …}`:
//!
//! | `call` | with | returns |
//! | --- | --- | --- |
//! | `enqueue` | `timeout`, `action`, `payload` | `[timestamp, uuid]` |
//! | `dequeue` | | `[timestamp, event]` |
//! | `dequeue_blocking` | `seconds` | `[timestamp, event]` |
//! | `use` | `queue` | null; from now on it speaks to that queue |
//! | `serve` | `seconds`, `action` | null; `dequeue_blocking`, and `respond` with the payload |
//! | `respond` | `action`, `payload` | null; the response to the event that was dequeued last |
//! | `await_response` | `timeout`, `action`, `payload` | `[uuid, timestamp, event]` |
//!
//! An event is an object of `uuid` (the number as text), `timeout`, `action` and `payload`. With `times` a call is made so
//! often, and what the last one returned is the answer.

use elk_mq::{EventQueue, EventQueueError, ServiceEvent, TimestampedEvent};
use serde_json::{json, Value};
use std::io::{stdin, stdout, BufRead, Write};

struct Client {
    url: String,
    queue: EventQueue,
    last: Option<ServiceEvent>,
}

impl Client {
    fn call(&mut self, order: &Value) -> Result<Value, EventQueueError> {
        match text(order, "call").as_str() {
            "enqueue" => {
                let event = event_of(order);
                let timestamp = self.queue.enqueue(&event)?;
                Ok(json!([timestamp, event.uuid().to_string()]))
            }
            "dequeue" => {
                let taken = self.queue.dequeue()?;
                Ok(self.keep(taken))
            }
            "dequeue_blocking" => {
                let taken = self.queue.dequeue_blocking(number(order, "seconds"))?;
                Ok(self.keep(taken))
            }
            "use" => {
                self.queue = EventQueue::new(&text(order, "queue"), &self.url);
                Ok(Value::Null)
            }
            "respond" => self.respond(&text(order, "action"), payload_of(order)),
            "serve" => {
                let taken = self.queue.dequeue_blocking(number(order, "seconds"))?;
                self.keep(taken);
                let payload = self.last.as_ref().and_then(|event| event.payload());
                self.respond(&text(order, "action"), payload)
            }
            "await_response" => {
                let event = event_of(order);
                let response = self.queue.await_response(&event)?;
                Ok(json!([event.uuid().to_string(), response.timestamp(), shown(response.event())]))
            }
            other => panic!("no such call: {other}"),
        }
    }

    fn respond(&mut self, action: &str, payload: Option<String>) -> Result<Value, EventQueueError> {
        let asked = self.last.as_ref().expect("nothing was dequeued");
        self.queue.enqueue_response(&ServiceEvent::new_response(asked, action, payload))?;
        Ok(Value::Null)
    }

    fn keep(&mut self, taken: TimestampedEvent) -> Value {
        self.last = Some(taken.event().clone());
        json!([taken.timestamp(), shown(taken.event())])
    }
}

fn event_of(order: &Value) -> ServiceEvent {
    ServiceEvent::new(number(order, "timeout"), &text(order, "action"), payload_of(order))
}

fn payload_of(order: &Value) -> Option<String> {
    order["payload"].as_str().map(str::to_string)
}

fn text(order: &Value, name: &str) -> String {
    order[name].as_str().unwrap_or_else(|| panic!("{name} is no text")).to_string()
}

fn number(order: &Value, name: &str) -> u16 {
    order[name].as_u64().and_then(|n| n.try_into().ok()).unwrap_or_else(|| panic!("{name} is no number of 16 bits"))
}

fn shown(event: &ServiceEvent) -> Value {
    json!({
        "uuid": event.uuid().to_string(),
        "timeout": event.timeout(),
        "action": event.action(),
        "payload": event.payload(),
    })
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let url = arguments[2].clone();
    let mut client = Client { queue: EventQueue::new(&arguments[1], &url), url, last: None };
    for line in stdin().lock().lines() {
        let order: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let mut answer = Ok(Value::Null);
        for _ in 0..order["times"].as_u64().unwrap_or(1) {
            answer = client.call(&order);
            if answer.is_err() {
                break;
            }
        }
        let shown = match answer {
            Ok(value) => json!({ "returned": value }),
            Err(error) => json!({ "raised": format!("{error:?}") }),
        };
        println!("{shown}");
        stdout().flush().unwrap();
    }
}

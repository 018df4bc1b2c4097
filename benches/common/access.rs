//! Rows of a web site's access log.

use std::net::IpAddr;

use super::test_data;

/// A request as the log tells it.
pub(crate) struct Request {
    /// Who asked.
    pub client: IpAddr,
    /// What for: what a row about it is tagged with.
    pub path: String,
    /// The rest of the line, without the address.
    pub rest: String,
}

/// All requests of the log.
pub(crate) fn requests() -> Vec<Request> {
    let text = std::fs::read_to_string(test_data("access.log")).unwrap();
    text.lines().filter_map(parse).collect()
}

fn parse(line: &str) -> Option<Request> {
    let (client, rest) = line.split_once(" - - ")?;
    let path = rest.split_once('"')?.1.split(' ').nth(1)?;
    let client = client.parse().ok()?;
    Some(Request { client, path: path.to_owned(), rest: rest.to_owned() })
}

//! The access log: who asked for what, without saying who. An address is turned into a pseudonym
//! before anything is written, and is not part of any payload.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use ebbtide::{Log, LogRow, Row, Timestamp};

/// User agents are cut after so many characters.
const MAX_AGENT_CHARS: usize = 200;
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// What is written down of one request, the client apart.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Its method.
    pub(crate) method: String,
    /// Its path and query.
    pub(crate) path: String,
    /// The status it was answered with.
    pub(crate) status: u16,
    /// The length of the answer.
    pub(crate) bytes: u64,
    /// What the client calls itself.
    pub(crate) agent: String,
}

impl Request {
    /// One line of text. The agent is quoted, so that it cannot pass for anything else.
    pub(crate) fn payload(&self) -> String {
        let Self { method, path, status, bytes, agent } = self;
        let agent: String = agent.chars().take(MAX_AGENT_CHARS).collect();
        format!("{method} {path} {status} {bytes} {agent:?}")
    }
}

/// A line of an access log in the combined format.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    /// Who asked.
    pub(crate) client: IpAddr,
    /// When.
    pub(crate) at: Timestamp,
    /// For what.
    pub(crate) request: Request,
}

impl Line {
    /// Reads a line; `None` if it is not in the format.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let (client, rest) = line.split_once(' ')?;
        let (_, rest) = rest.split_once('[')?;
        let (at, rest) = rest.split_once("] \"")?;
        let (asked, rest) = rest.split_once("\" ")?;
        let (status, rest) = rest.split_once(' ')?;
        let (bytes, rest) = rest.split_once(" \"")?;
        let (_referrer, agent) = rest.split_once("\" \"")?;
        let mut asked = asked.split(' ');
        Some(Self {
            client: client.parse().ok()?,
            at: parse_time(at)?,
            request: Request {
                method: asked.next()?.to_owned(),
                path: asked.next()?.to_owned(),
                status: status.parse().ok()?,
                bytes: bytes.parse().unwrap_or(0),
                agent: agent.trim_end_matches('"').to_owned(),
            },
        })
    }
}

/// Reads `17/May/2015:10:05:03 +0000`. Other zones than UTC are not understood.
fn parse_time(text: &str) -> Option<Timestamp> {
    let text = text.strip_suffix(" +0000")?;
    let (date, time) = text.split_once(':')?;
    let mut date = date.split('/');
    let day: u64 = date.next()?.parse().ok().filter(|day| (1..=31).contains(day))?;
    let name = date.next()?;
    let month = MONTHS.iter().position(|month| *month == name)? as u64 + 1;
    let year: u64 = date.next()?.parse().ok().filter(|year| (1970..10_000).contains(year))?;
    let mut clock = time.split(':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let seconds = hour.checked_mul(3600)?.checked_add(minute.checked_mul(60)?)?;
    let seconds = seconds.checked_add(second).filter(|seconds| *seconds <= 86_400)?;
    Some(Timestamp::from_millis((days_since_epoch(year, month, day) * 86_400 + seconds) * 1000))
}

/// Days from the epoch to a date, with the year taken to begin in March, so that the leap day is
/// its last.
fn days_since_epoch(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let leap_days = year / 4 - year / 100 + year / 400;
    year * 365 + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

/// The log of requests in the store.
#[derive(Debug, Clone)]
pub(crate) struct AccessLog {
    log: Log,
}

impl AccessLog {
    /// Takes the store's log.
    pub(crate) fn new(log: Log) -> Self {
        Self { log }
    }

    /// Writes down a request that was answered at this time.
    pub(crate) fn record(
        &self,
        client: IpAddr,
        at: Timestamp,
        photo: Option<&str>,
        request: &Request,
    ) -> ebbtide::Result<()> {
        self.log.append(self.row(client, at, photo, request)?).map(|_| ())
    }

    /// Writes down many requests, in as few writes as they need.
    pub(crate) fn record_all(&self, lines: &[Line]) -> ebbtide::Result<()> {
        let mut appender = self.log.appender();
        for line in lines {
            appender.append(self.row(line.client, line.at, None, &line.request)?)?;
        }
        appender.flush()
    }

    fn row(
        &self,
        client: IpAddr,
        at: Timestamp,
        photo: Option<&str>,
        request: &Request,
    ) -> ebbtide::Result<Row> {
        let pseudonym = self.log.pseudonym(client, at)?;
        let row = Row::new(pseudonym).at(at).payload(request.payload());
        Ok(match photo {
            Some(photo) => row.tag(photo),
            None => row,
        })
    }

    /// The last rows, the latest first.
    pub(crate) fn latest(&self, now: Timestamp, count: usize) -> ebbtide::Result<Vec<LogRow>> {
        // A scan goes forward in time, so ever longer spans are looked at until there is enough.
        let mut latest = VecDeque::new();
        for hours in [1, 24, 30 * 24] {
            latest.clear();
            let start = now - Duration::from_secs(hours * 3600);
            for row in self.log.scan(start..)? {
                latest.push_back(row?);
                if latest.len() > count {
                    latest.pop_front();
                }
            }
            if latest.len() == count {
                break;
            }
        }
        Ok(latest.into_iter().rev().collect())
    }
}

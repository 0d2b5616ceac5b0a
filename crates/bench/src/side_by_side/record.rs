//! What was measured: figures with names, their medians, and one JSON line per run.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::load::meter::Meter;

/// The figures of one run of one cell.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// Single numbers.
    pub numbers: BTreeMap<&'static str, f64>,
    /// Numbers second by second.
    pub series: BTreeMap<&'static str, Vec<f64>>,
}

impl Figures {
    /// Adds a number.
    pub fn set(&mut self, name: &'static str, number: f64) {
        self.numbers.insert(name, number);
    }

    /// What every load tells: rate, latencies, the server's processor time per operation.
    pub fn of_load(meter: &Meter, cpu: std::time::Duration) -> Figures {
        let mut figures = Figures::default();
        figures.set("ops_s", meter.rate());
        figures.set("p50_us", meter.latency.quantile_us(0.5));
        figures.set("p99_us", meter.latency.quantile_us(0.99));
        figures.set("cpu_us_op", cpu.as_secs_f64() * 1e6 / meter.count().max(1) as f64);
        figures
    }
}

/// Which server.
#[derive(Copy, Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Side {
    /// The one of this project.
    Ours,
    /// The other.
    Peer,
}

impl Side {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Side::Ours => "ours",
            Side::Peer => "peer",
        }
    }
}

/// One run of one cell.
#[derive(Clone, Debug)]
pub struct Record {
    /// The cell.
    pub cell: &'static str,
    /// The server.
    pub side: Side,
    /// Its version.
    pub version: String,
    /// Counted from 1.
    pub run: usize,
    /// What was measured.
    pub figures: Figures,
}

impl Record {
    /// As one line.
    pub fn json(&self) -> String {
        let mut line = format!(
            "{{\"cell\":\"{}\",\"server\":\"{}\",\"version\":\"{}\",\"run\":{}",
            self.cell,
            self.side.name(),
            self.version,
            self.run
        );
        for (name, number) in &self.figures.numbers {
            let _ = write!(line, ",\"{name}\":{}", short(*number));
        }
        for (name, series) in &self.figures.series {
            let numbers: Vec<String> = series.iter().map(|n| short(*n)).collect();
            let _ = write!(line, ",\"{name}\":[{}]", numbers.join(","));
        }
        line.push('}');
        line
    }
}

/// Three digits behind the point at most, none where they say nothing.
fn short(number: f64) -> String {
    if number.abs() >= 1000.0 { format!("{number:.0}") } else { format!("{}", (number * 1000.0).round() / 1000.0) }
}

/// The median of one figure over the runs of one cell, None if it was not measured.
pub fn median(records: &[Record], cell: &str, side: Side, figure: &str) -> Option<f64> {
    let of_it = records.iter().filter(|r| r.cell == cell && r.side == side);
    let mut numbers: Vec<f64> = of_it.filter_map(|r| r.figures.numbers.get(figure).copied()).collect();
    numbers.sort_by(f64::total_cmp);
    let upper = *numbers.get(numbers.len() / 2)?;
    Some(if numbers.len().is_multiple_of(2) { (numbers[numbers.len() / 2 - 1] + upper) / 2.0 } else { upper })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(run: usize, number: f64) -> Record {
        let figures = Figures { numbers: [("ops_s", number)].into(), series: [("by_second", vec![1.0, 2.5])].into() };
        Record { cell: "put", side: Side::Ours, version: "1".to_owned(), run, figures }
    }

    #[test]
    fn medians_and_lines() {
        let mut records = vec![record(1, 3.0), record(2, 1.0), record(3, 1000.4)];
        assert_eq!(median(&records, "put", Side::Ours, "ops_s"), Some(3.0));
        records.pop();
        assert_eq!(median(&records, "put", Side::Ours, "ops_s"), Some(2.0));
        assert_eq!(median(&records, "put", Side::Peer, "ops_s"), None);
        assert_eq!(
            record(3, 1000.4).json(),
            r#"{"cell":"put","server":"ours","version":"1","run":3,"ops_s":1000,"by_second":[1,2.5]}"#
        );
    }
}

//! The bytes of what is said when a member has just started.

use super::encoding::{millis, patience_of};
use super::{Stand, Verdict, Vouched};
use crate::encoding::{Decode, DecodeError, Encode, Reader, Writer, fields, required};
use crate::raft::codec::Wire;
use crate::raft::standing::Papers;

impl Encode for Stand {
    fn encode(&self, writer: &mut Writer) {
        writer.message(1, &self.seat);
        writer.message(2, &self.record);
        self.before.iter().for_each(|life| writer.message(3, life));
        if let Some(papers) = &self.papers {
            writer.message(4, papers);
        }
        writer.number(5, millis(self.patience));
    }
}

impl Decode for Stand {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        let (mut seat, mut record, mut before, mut papers, mut patience) = (None, None, Vec::new(), None, None);
        while let Some((field, value)) = reader.field()? {
            match field {
                1 => seat = Some(value.message()?),
                2 => record = Some(value.message()?),
                3 => before.push(value.message()?),
                4 => papers = Some(value.message()?),
                5 => patience = Some(value.number()?),
                _ => {}
            }
        }
        let (seat, record) = (required(seat, "seat")?, required(record, "record")?);
        Ok(Self { seat, record, before, papers, patience: patience_of(patience)? })
    }
}

impl Encode for Papers {
    fn encode(&self, writer: &mut Writer) {
        if let Some(vote) = self.vote {
            writer.message(1, &Wire(vote));
        }
        if let Some(last_log) = self.last_log {
            writer.message(2, &Wire(last_log));
        }
    }
}

impl Decode for Papers {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        fields!(reader => 1 vote: message, 2 last_log: message);
        Ok(Self { vote: vote.map(|Wire(vote)| vote), last_log: last_log.map(|Wire(last_log)| last_log) })
    }
}

impl Encode for Vouched {
    fn encode(&self, writer: &mut Writer) {
        if let Some(by) = &self.by {
            writer.message(1, by);
        }
        writer.number(2, u64::from(self.takes_part));
        writer.number(3, u64::from(self.hears_leader));
        match &self.verdict {
            Verdict::Unknown => writer.nested(4, |_| {}),
            Verdict::Confirmed { through } => writer.message(5, &Wire(*through)),
            Verdict::Removed => writer.nested(6, |_| {}),
            Verdict::Refused(text) => writer.text(7, text),
        }
    }
}

impl Decode for Vouched {
    fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        let (mut by, mut takes_part, mut hears_leader, mut verdict) = (None, false, false, None);
        while let Some((field, value)) = reader.field()? {
            match field {
                1 => by = Some(value.message()?),
                2 => takes_part = value.number()? != 0,
                3 => hears_leader = value.number()? != 0,
                4 => verdict = Some(Verdict::Unknown),
                5 => {
                    let Wire(through) = value.message()?;
                    verdict = Some(Verdict::Confirmed { through });
                }
                6 => verdict = Some(Verdict::Removed),
                7 => verdict = Some(Verdict::Refused(value.text()?)),
                _ => {}
            }
        }
        Ok(Self { by, takes_part, hears_leader, verdict: required(verdict, "verdict")? })
    }
}

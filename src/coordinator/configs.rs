//! Configs: replicated documents, written over HTTP where no custom resource owns them.

use super::{Coordinator, CoordinatorError, Write, Written};
use crate::machine::command::{Action, ConfigCondition, ConfigDocument, ConfigId, ConsumerReport};
use crate::machine::outcome::Effect;
use crate::types::{Revision, SessionId, Version};

/// What a put of a config did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConfigPut {
    /// The version that is served now, and the revision that made it.
    pub version: Version,
    pub revision: Revision,
    /// False when the content was there already.
    pub changed: bool,
}

impl Coordinator {
    /// Sets a config.
    ///
    /// # Errors
    /// When a custom resource owns it, the condition does not hold, it is too large, or the cluster cannot do it now.
    pub async fn put_config(
        &self,
        config: ConfigId,
        document: ConfigDocument,
        only_if: ConfigCondition,
        write: Write,
    ) -> Result<Written<ConfigPut>, CoordinatorError> {
        let written = self.propose(Action::PutConfig { config, document, only_if }, write).await?;
        Ok(written.map(|effect| {
            let Effect::ConfigPut { version, revision, changed } = effect else { return None };
            Some(ConfigPut { version, revision, changed })
        }))
    }

    /// Deletes a config with its history; whether it was there.
    ///
    /// # Errors
    /// As [`Coordinator::put_config`].
    pub async fn delete_config(
        &self,
        config: ConfigId,
        only_if: ConfigCondition,
        write: Write,
    ) -> Result<Written<bool>, CoordinatorError> {
        let written = self.propose(Action::DeleteConfig { config, only_if }, write).await?;
        Ok(written.map(|effect| if let Effect::ConfigDeleted { existed } = effect { Some(existed) } else { None }))
    }

    /// Notes which version of a config a consumer runs; whether that is new.
    ///
    /// # Errors
    /// When the session has ended, there is no such version, or the cluster cannot do it now.
    pub async fn report_consumer(
        &self,
        config: ConfigId,
        session: SessionId,
        report: ConsumerReport,
        write: Write,
    ) -> Result<Written<bool>, CoordinatorError> {
        let written = self.propose(Action::ReportConsumer { config, session, report }, write).await?;
        Ok(written.map(|effect| if let Effect::ConsumerReported { changed } = effect { Some(changed) } else { None }))
    }
}

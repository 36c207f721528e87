//! What all workers write and read together: checkpoints and embeddings.

use super::Trainer;
use crate::kge::{KgeError, export};

impl Trainer<'_, '_> {
    /// Writes a checkpoint, if there is a folder for it.
    pub(super) fn save(&mut self) -> Result<(), KgeError> {
        let run = self.run;
        let Some(checkpoints) = &run.checkpoints else { return Ok(()) };
        let leads = self.share.index == 0;
        let begun = if leads { checkpoints.begin() } else { Ok(()) };
        self.agree(begun)?;
        self.worker.barrier()?;
        let written = checkpoints.write_share(&mut self.worker, &run.tables(), self.share);
        self.agree(written)?;
        let published = if leads {
            checkpoints.publish(self.place, &self.history, &run.tables()).map(Some)
        } else {
            Ok(None)
        };
        let folder = self.agree(published)?;
        self.note(|_| folder.map_or_else(String::new, |f| format!("saved {}", f.display())));
        Ok(())
    }

    pub(super) fn export(&mut self) -> Result<(), KgeError> {
        let run = self.run;
        let Some(folder) = &run.config.export else { return Ok(()) };
        let mut exported = Ok(());
        if self.share.index == 0 {
            for (table, names) in
                run.tables().into_iter().zip([&run.graph.entities, &run.graph.relations])
            {
                exported =
                    exported.and_then(|()| export::write(folder, &mut self.worker, table, names));
            }
        }
        self.agree(exported)?;
        self.note(|_| format!("embeddings are in {}", folder.display()));
        Ok(())
    }

    /// Lets all workers know whether this one failed; if any did, all do.
    pub(super) fn agree<T>(&mut self, mine: Result<T, KgeError>) -> Result<T, KgeError> {
        let mut failed = [f64::from(u8::from(mine.is_err()))];
        self.worker.all_reduce_sum(&mut failed)?;
        match mine {
            Ok(_) if failed[0] > 0.0 => Err(KgeError::OtherWorker),
            mine => mine,
        }
    }
}

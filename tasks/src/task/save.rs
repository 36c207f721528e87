//! What all workers write and read together: checkpoints and the exported model.

use super::train::Trainer;
use super::{Export, Parameters, Task, TaskError};

impl<T: Task> Trainer<'_, '_, T> {
    /// Writes a checkpoint, if there is a folder for it.
    pub(super) fn save(&mut self) -> Result<(), TaskError> {
        let run = self.run;
        let Some(checkpoints) = &run.checkpoints else { return Ok(()) };
        let leads = self.share.index == 0;
        let begun = if leads { checkpoints.begin() } else { Ok(()) };
        self.agree(begun)?;
        self.worker.barrier()?;
        let written = checkpoints.write_share(&mut self.worker, &run.tables, self.share);
        self.agree(written)?;
        let published = if leads {
            checkpoints.publish(self.place, &self.history, &run.tables).map(Some)
        } else {
            Ok(None)
        };
        let folder = self.agree(published)?;
        self.note(|_| folder.map_or_else(String::new, |f| format!("saved {}", f.display())));
        Ok(())
    }

    /// Writes the model, if there is a folder for it.
    pub(super) fn export(&mut self) -> Result<(), TaskError> {
        let run = self.run;
        let Some(folder) = &run.config.export else { return Ok(()) };
        let mut exported = Ok(());
        if self.share.index == 0 {
            let mut parameters = Parameters::new(&mut self.worker, &run.tables);
            exported = Export::write(folder, run.config.export_format, &mut parameters, |export| {
                run.task.export(export)
            });
        }
        self.agree(exported)?;
        self.note(|_| format!("the model is in {}", folder.display()));
        Ok(())
    }

    /// Lets all workers know whether this one failed; if any did, all do.
    pub(super) fn agree<R>(&mut self, mine: Result<R, TaskError>) -> Result<R, TaskError> {
        let mut failed = [f64::from(u8::from(mine.is_err()))];
        self.worker.all_reduce_sum(&mut failed)?;
        match mine {
            Ok(_) if failed[0] > 0.0 => Err(TaskError::OtherWorker),
            mine => mine,
        }
    }
}

package cli

import "github.com/spf13/cobra"

// commands are all commands in the order of the overview.
func commands(a *app) []*cobra.Command {
	return []*cobra.Command{
		newPlanCommand(a), newApplyCommand(a), newResumeCommand(a), newRehearseCommand(a), newApproveCommand(a), newReleaseCommand(a), newExecCommand(a),
		newStatusCommand(a), newImportCommand(a), newSnapshotCommand(a), newInventoryCommand(a), newModulesCommand(a), newLuaCommand(a), newRunbooksCommand(a), newRunsCommand(a), newReportCommand(a), newVersionCommand(a), newCompletionCommand(a),
		newValidateCommand(a), newFmtCommand(a),
		newLabCommand(a),
	}
}

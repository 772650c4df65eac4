package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
)

func (a *app) completionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "completion bash|zsh|fish", Short: "Completion for your shell, with live names",
		Long: "Prints the completion script of a shell. Clusters, documents and nodes are\ncompleted from etcd, fields from the documents' schema.",
		Example: "  pgctrl completion bash > /etc/bash_completion.d/pgctrl\n" +
			"  source <(pgctrl completion zsh)",
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"bash", "zsh", "fish"},
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "zsh":
				return root.GenZshCompletion(a.Out)
			case "fish":
				return root.GenFishCompletion(a.Out, true)
			}
			return root.GenBashCompletionV2(a.Out, true)
		},
	}
}

// completionTime bounds what a press of the tab key may take: a shell that hangs
// is worse than one without names.
const completionTime = time.Second

type completer = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective)

// complete makes a completion function of one source of names per argument.
func (a *app) complete(sources ...func(l *live, args []string, typed string) []string) completer {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		i := min(len(args), len(sources)-1)
		if i < 0 || sources[i] == nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
		defer cancel()
		// Cobra runs no pre-run function for completion.
		var err error
		if a.settings, err = resolve(cmd, a.deps.Getenv); err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		l, err := a.read(ctx, append([]keys.Family{keys.Operations}, documentFamilies...)...)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		directive := cobra.ShellCompDirectiveNoFileComp
		var out []string
		for _, n := range sources[i](l, args, typed) {
			if strings.HasPrefix(n, typed) {
				out = append(out, n)
			}
		}
		if len(out) > 0 && strings.HasSuffix(out[0], "=") {
			directive |= cobra.ShellCompDirectiveNoSpace
		}
		return out, directive
	}
}

func completeClusters(l *live, _ []string, _ string) []string { return l.clusters() }

// completeScopes is what may stand where the cluster stands.
func completeScopes(l *live, _ []string, _ string) []string {
	return append(l.clusters(), scopeDefaults, scopeNodes, scopeHooks)
}

// completeDocuments are the documents that exist and those that have defaults.
func completeDocuments(l *live, args []string, _ string) []string {
	out := l.documents(args[0])
	switch args[0] {
	case scopeNodes, scopeHooks:
	case scopeDefaults:
		for _, k := range desired.Kinds() {
			if !k.Fleet && !k.Both {
				out = append(out, k.Name)
			}
		}
	default:
		out = append(out, effectiveDocuments(desired.Load(l, l.layout, args[0]))...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func completeAssignments(l *live, args []string, typed string) []string {
	return withSuffix(completeFields(l, args, typed), "=")
}

func completeFields(_ *live, args []string, typed string) []string {
	if len(args) < 2 {
		return nil
	}
	return desired.Complete(schemaName(args[0], args[1]), typed)
}

func completeNodes(l *live, _ []string, _ string) []string {
	return l.names(keys.Nodes, func(r keys.Ref) string { return r.Node })
}

func withSuffix(names []string, suffix string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = n + suffix
	}
	return out
}

package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"reparto/internal/cli"
)

func newHealth() *cobra.Command {
	c := &caller{}
	var service string
	cmd := &cobra.Command{
		Use: "health [flags]", Short: "Ask whether a balancer serves, by exit code: for containers and scripts", Args: cobra.NoArgs, DisableFlagsInUseLine: true,
		Long: `Asks grpc.health.v1.Health. Exit codes: 0 it serves, 1 it is there and does not
(it drains; or, with --service reparto.v1.TaskService/Enqueue, its store fails),
3 there is nobody.`,
	}
	c.addFlags(cmd.Flags())
	cmd.Flags().StringVar(&service, "service", "", "ask about one service alone, e.g. reparto.v1.TaskService")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return c.with(cmd, func(ctx context.Context) error {
			resp, err := c.health.Check(ctx, &healthpb.HealthCheckRequest{Service: service})
			if err != nil {
				return err
			}
			if c.asJSON() {
				err = c.json(resp)
			} else {
				c.printf("%s\n", resp.GetStatus())
			}
			if err == nil && resp.GetStatus() != healthpb.HealthCheckResponse_SERVING {
				return cli.Exit(cli.Failed, errors.New("it is there, and does not serve"))
			}
			return err
		})
	}
	return cmd
}

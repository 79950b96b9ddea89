package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	if isCrew(os.Args) {
		os.Exit(runCrew())
	}
	if isBurner(os.Args) {
		os.Exit(runBurner())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	go func() {
		<-ctx.Done()
		stop() // a second signal ends the process at once
	}()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

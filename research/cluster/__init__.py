"""The processes of a run and their devices: start-up, rendezvous, heartbeats, preemption, determinism."""

"""One step on one mesh: configs, mesh, state, step, optimisers, metrics, and what an experiment is."""

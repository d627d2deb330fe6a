"""The emulator's process: HTTP server, control API, notifier and configuration."""

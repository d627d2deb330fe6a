"""Services that run on threads of their own beside the Celery pool. `worker.queue.celery_app.SERVICES` lists them."""

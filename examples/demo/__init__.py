"""The main job: a real batch over every source file of Python's standard library, overtaken by urgent requests.

Run it with ``make demo``, or ``python -m examples.demo``. The parts, each small enough to copy:

``analysis``
    what is worked out about one file: plain functions that know nothing of queues.
``tasks``
    the app and its two tasks.
``proof``
    whether a job was lost or ran twice, or an ordinary one was started while an urgent one waited.
``report``
    the progress bar and the final screen.
``__main__``
    puts it together: starts workers, sends the batch, asks the urgent questions, and waits.
"""

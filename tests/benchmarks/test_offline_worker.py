"""What goes to a process of another environment and comes back through a pipe."""

import os

import numpy as np

from benchmarks.logs.offline_worker import receive, send


def test_arrays_through_a_pipe():
    source, sink = os.pipe()
    with os.fdopen(sink, "wb") as writer, os.fdopen(source, "rb") as reader:
        for array in (np.arange(6.0).reshape(2, 3), np.zeros(0, np.int64)):
            send(writer, array)
            got = receive(reader)
            np.testing.assert_array_equal(got, array)
            assert got.dtype == array.dtype
        writer.close()
        assert receive(reader) is None

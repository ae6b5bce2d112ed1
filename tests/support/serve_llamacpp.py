"""llama.cpp's own server, from the wheel of xllamacpp, which has it as a library.

    python tests/support/serve_llamacpp.py --model FILE.gguf --port 8080 --parallel 1

serves until it is killed.
"""

import argparse
import threading

import xllamacpp


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--parallel", type=int, default=1, help="slots, each for one request")
    options = parser.parse_args()
    params = xllamacpp.CommonParams()
    params.model.path = options.model
    params.hostnames, params.port = ["127.0.0.1"], options.port
    params.n_parallel = options.parallel
    params.n_ctx = 2048 * options.parallel
    params.cpuparams.n_threads = 1
    # As --no-cache-prompt: what is kept of the prompt before divides this one into other batches,
    # whose sums are rounded otherwise, so that near ties of tokens would depend on the order.
    params.cache_prompt = False
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()

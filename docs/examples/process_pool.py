"""A pool of processes, each asking with a client that came to it as a pickle.

NVIDIA_BASE_URL=http://localhost:8000 python process_pool.py
"""

import multiprocessing

from nimclient import Client, NimError

QUESTIONS = ["What is a GPU?", "What is a tensor?", "What is a kernel?", "What is a stream?"]


def ask(client: Client, question: str) -> str | NimError:
    """The answer, or the error: both travel between processes."""
    try:
        return client.chat.create(question).text
    except NimError as error:
        return error


def main() -> None:
    """Ask everything, two at a time. A pickled client carries its settings; the key comes from each process's environment."""
    with Client() as client, multiprocessing.get_context("spawn").Pool(2) as pool:
        for question, outcome in zip(QUESTIONS, pool.starmap(ask, [(client, q) for q in QUESTIONS]), strict=True):
            print(f"{question} {outcome}")
        pool.close()
        pool.join()


if __name__ == "__main__":
    main()

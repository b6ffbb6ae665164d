"""Modal's control plane on loopback, built from the wheel's own protocol: for tests alone.

    with FakeModal(run=remote.entry) as fake:       # run: bytes of a request -> bytes of an answer
        fake.faults = {5: "timeout"}                # the fifth call of a function times out
        ... MODAL_SERVER_URL is fake.url

Covered: deploying (image layers, mounts, functions), looking up, calls and their results, blobs
over HTTP, tokens, and faults in chosen calls. Requests are kept in `requests`, by method.
Not covered: building images, starting containers, a GPU, Modal's own scheduling. Calls run in
threads of this process, at most `containers` at once.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import pickle
import threading
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import cbor2
from aiohttp import web
from google.protobuf.empty_pb2 import Empty
from grpclib import GRPCError, Status
from grpclib.server import Server
from modal_proto import api_grpc, api_pb2

SUCCESS = api_pb2.GenericResult.GENERIC_STATUS_SUCCESS
FAILURE = api_pb2.GenericResult.GENERIC_STATUS_FAILURE
STATUS = {
    "timeout": api_pb2.GenericResult.GENERIC_STATUS_TIMEOUT,
    "internal": api_pb2.GenericResult.GENERIC_STATUS_INTERNAL_FAILURE,
    "terminated": api_pb2.GenericResult.GENERIC_STATUS_TERMINATED,
    "crash": FAILURE,
}
CBOR = api_pb2.DATA_FORMAT_CBOR
SECRET = "as-fake"
FAULTS = (*STATUS, "expired", "garbage", "pickle", "quota", "refuses", "contact")
TAKEN_OVER: list[str] = []


class Takeover:
    """What a hostile container would send: reading it runs code here."""

    def __reduce__(self):
        return TAKEN_OVER.append, ("unpickled",)


@dataclass
class Call:
    """One function call. outcome: its result, once it ended. fault: what becomes of it."""

    function: str
    number: int
    fault: str = ""
    outcome: Future = field(default_factory=Future)
    contacts: int = 0


class FakeModal:
    """Starts on entering, ends on leaving. calls: every function call, in order."""

    def __init__(self, run: Callable[[bytes], bytes], containers: int = 4) -> None:
        self.run = run
        self.faults: dict[int, str] | Callable[[int], str] = {}
        self.requests: dict[str, list[Any]] = defaultdict(list)
        self.calls: dict[str, Call] = {}
        self.functions: dict[str, api_pb2.Function] = {}
        self.images: dict[str, api_pb2.Image] = {}
        self.apps: dict[str, dict[str, str]] = {}  # name -> {function: id}
        self.blobs: dict[str, bytes] = {}
        self.running = self.most_running = 0
        self._numbers = itertools.count(1)
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(containers)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._ready = threading.Event()
        self.url = self.blob_url = ""

    def __enter__(self) -> FakeModal:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def forget(self, run: Callable[[bytes], bytes]) -> None:
        """Answer with `run` from now on, without faults, and count calls from 1 again."""
        self.run, self.faults = run, {}
        self.calls.clear()
        self._numbers = itertools.count(1)

    def layers(self, image_id: str) -> list[api_pb2.Image]:
        """The layers of an image, the first one first."""
        image = self.images[image_id]
        below = [layer for base in image.base_images for layer in self.layers(base.image_id)]
        return [*below, image]

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = Server([_service(self)])
        runner = web.AppRunner(self._storage())

        async def start() -> None:
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.blob_url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            await server.start("127.0.0.1", 0)
            port = server._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
            self.url = f"http://127.0.0.1:{port}"
            self._ready.set()

        self._loop.run_until_complete(start())
        self._loop.run_forever()

    def _storage(self) -> web.Application:
        async def put(request: web.Request) -> web.Response:
            data = await request.read()
            self.blobs[request.match_info["name"]] = data
            return web.Response(headers={"ETag": hashlib.md5(data).hexdigest()})

        async def get(request: web.Request) -> web.Response:
            return web.Response(body=self.blobs[request.match_info["name"]])

        app = web.Application(client_max_size=1 << 30)
        app.router.add_put("/{name}", put)
        app.router.add_get("/{name}", get)
        return app

    def new_id(self, prefix: str) -> str:
        return f"{prefix}-{next(self._ids):06d}"

    def begin(self, function_id: str, item: api_pb2.FunctionPutInputsItem) -> str:
        """A new call of a function: it runs at once, unless a fault takes its place."""
        with self._lock:
            number = next(self._numbers)
            fault = self.faults(number) if callable(self.faults) else self.faults.get(number, "")
            call_id = self.new_id("fc")
            call = Call(self.functions[function_id].function_name, number, fault)
            self.calls[call_id] = call
        if fault == "quota":
            raise GRPCError(Status.RESOURCE_EXHAUSTED, "the workspace has no budget left")
        which = item.input.WhichOneof("args_oneof")
        data = self.blobs[item.input.args_blob_id] if which == "args_blob_id" else item.input.args
        assert item.input.data_format == CBOR
        arguments, keywords = cbor2.loads(data)
        assert not keywords
        self._pool.submit(self._execute, call, arguments[0])
        return call_id

    def _execute(self, call: Call, request: bytes) -> None:
        with self._lock:
            self.running += 1
            self.most_running = max(self.most_running, self.running)
        try:
            call.outcome.set_result(self._result(call, request))
        except Exception as error:  # noqa: BLE001 - whatever a function raises is its result
            call.outcome.set_result(
                api_pb2.GenericResult(status=FAILURE, exception=repr(error), traceback=repr(error))
            )
        finally:
            with self._lock:
                self.running -= 1

    def _result(self, call: Call, request: bytes) -> api_pb2.GenericResult:
        fault = call.fault
        if fault in STATUS:
            return api_pb2.GenericResult(status=STATUS[fault], exception=f"injected: {fault}")
        if fault == "pickle":
            return api_pb2.GenericResult(status=FAILURE, data=pickle.dumps(Takeover()))
        answer = self.run(request)
        if fault == "garbage":
            answer = b"not an answer"
        if fault == "refuses":
            answer = refusal("wrong_gpu", "expected one H100, the container has NVIDIA H200")
        return api_pb2.GenericResult(status=SUCCESS, data=cbor2.dumps(answer))


def refusal(kind: str, message: str) -> bytes:
    from harness.evaluate.modal.requests import encode

    body = {"result": {}, "refusal": kind, "message": message, "container": {"seconds": 0.5}}
    return encode(body)


def known(kind: Any, **fields: Any) -> Any:
    """A message, without the fields that this release of the package does not know."""
    names = {field.name for field in kind.DESCRIPTOR.fields}
    return kind(**{name: value for name, value in fields.items() if name in names})


def _service(fake: FakeModal) -> Any:
    """The servicer: what is not defined below is UNIMPLEMENTED."""

    def handler(name: str) -> Any:
        async def handle(_: Any, stream: Any) -> None:
            request = await stream.recv_message()
            fake.requests[name].append(request)
            if stream.metadata.get("x-modal-token-secret") != SECRET:
                raise GRPCError(Status.UNAUTHENTICATED, "the token is not known")
            answer = getattr(_Answers(fake), name, None)
            if answer is None:
                raise GRPCError(Status.UNIMPLEMENTED, f"the fake has no {name}")
            reply = answer(request)
            await stream.send_message(await reply if asyncio.iscoroutine(reply) else reply)

        return handle

    names = api_grpc.ModalClientBase.__abstractmethods__
    return type("Servicer", (api_grpc.ModalClientBase,), {n: handler(n) for n in names})()


class _Answers:
    """One method for each procedure."""

    def __init__(self, fake: FakeModal) -> None:
        self.fake = fake

    def ClientHello(self, _):
        return api_pb2.ClientHelloResponse()

    def EnvironmentGetOrCreate(self, _):
        settings = api_pb2.EnvironmentSettings(image_builder_version="2025.06")
        metadata = api_pb2.EnvironmentMetadata(name="main", settings=settings)
        return api_pb2.EnvironmentGetOrCreateResponse(environment_id="en-1", metadata=metadata)

    def AppGetByDeploymentName(self, request):
        known = request.name in self.fake.apps
        return api_pb2.AppGetByDeploymentNameResponse(app_id=f"ap-{request.name}" if known else "")

    def AppGetLayout(self, request):
        name = request.app_id.removeprefix("ap-")
        layout = api_pb2.AppLayout(function_ids=self.fake.apps[name])
        return api_pb2.AppGetLayoutResponse(app_layout=layout)

    def AppCreate(self, request):
        return api_pb2.AppCreateResponse(app_id=f"ap-{request.description}")

    def AppHeartbeat(self, _):
        return Empty()

    def AppClientDisconnect(self, _):
        return Empty()

    def AppPublish(self, request):
        self.fake.apps[request.name] = dict(request.function_ids)
        return known(api_pb2.AppPublishResponse, url="https://modal.invalid/app", deployed_at=1.0)

    def MountGetOrCreate(self, _):
        metadata = api_pb2.MountHandleMetadata(content_checksum_sha256_hex="0" * 64)
        return api_pb2.MountGetOrCreateResponse(
            mount_id=self.fake.new_id("mo"), handle_metadata=metadata
        )

    def MountBatchedCheckExistence(self, request):
        return api_pb2.MountBatchedCheckExistenceResponse(
            missing_sha256_hex_hashes=request.sha256_hex_hashes
        )

    def MountPutFile(self, _):
        return api_pb2.MountPutFileResponse(exists=True)

    def ImageGetOrCreate(self, request):
        image_id = self.fake.new_id("im")
        self.fake.images[image_id] = request.image
        result = api_pb2.GenericResult(status=SUCCESS)
        metadata = known(
            api_pb2.ImageMetadata,
            image_builder_version="2025.06",
            python_version_info="Python 3.12.3",
        )
        return api_pb2.ImageGetOrCreateResponse(image_id=image_id, result=result, metadata=metadata)

    def FunctionPrecreate(self, request):
        function_id = request.existing_function_id or self.fake.new_id("fu")
        return api_pb2.FunctionPrecreateResponse(
            function_id=function_id, handle_metadata=_metadata(function_id, request.function_name)
        )

    def FunctionCreate(self, request):
        self.fake.functions[request.existing_function_id] = request.function
        return known(
            api_pb2.FunctionCreateResponse,
            function_id=request.existing_function_id,
            function_data=_data(request.function),
            handle_metadata=_metadata(request.existing_function_id, request.function.function_name),
        )

    def FunctionGet(self, request):
        function_id = self.fake.apps.get(request.app_name, {}).get(request.object_tag)
        if function_id is None:
            raise GRPCError(Status.NOT_FOUND, f"no {request.app_name}/{request.object_tag}")
        return known(
            api_pb2.FunctionGetResponse,
            function_id=function_id,
            function=_data(self.fake.functions[function_id]),
            handle_metadata=_metadata(function_id, request.object_tag),
        )

    def FunctionMap(self, request):
        (item,) = request.pipelined_inputs
        call_id = self.fake.begin(request.function_id, item)
        placed = api_pb2.FunctionPutInputsResponseItem(idx=0, input_id="in-1", input_jwt="x")
        return api_pb2.FunctionMapResponse(
            function_call_id=call_id, function_call_jwt="x", pipelined_inputs=[placed]
        )

    def BlobCreate(self, _):
        blob = self.fake.new_id("bl")
        urls = api_pb2.UploadUrlList(items=[f"{self.fake.blob_url}/{blob}"])
        return api_pb2.BlobCreateResponse(blob_ids=[blob], upload_urls=urls)

    def BlobGet(self, request):
        return api_pb2.BlobGetResponse(download_url=f"{self.fake.blob_url}/{request.blob_id}")

    async def FunctionGetOutputs(self, request):
        call = self.fake.calls.get(request.function_call_id)
        if call is None or call.fault == "expired":
            await asyncio.sleep(min(0.1, request.timeout))
            return api_pb2.FunctionGetOutputsResponse(num_unfinished_inputs=0)
        if call.fault == "contact" and call.contacts < 8:  # more than Modal itself asks again
            call.contacts += 1
            raise GRPCError(Status.UNAVAILABLE, "the connection was lost")
        try:
            result = await asyncio.wait_for(
                asyncio.shield(asyncio.wrap_future(call.outcome)), request.timeout
            )
        except TimeoutError:
            return api_pb2.FunctionGetOutputsResponse(num_unfinished_inputs=1)
        form = api_pb2.DATA_FORMAT_PICKLE if call.fault == "pickle" else CBOR
        output = api_pb2.FunctionGetOutputsItem(result=result, idx=0, data_format=form)
        return api_pb2.FunctionGetOutputsResponse(outputs=[output])


def _metadata(function_id: str, name: str) -> api_pb2.FunctionHandleMetadata:
    return known(
        api_pb2.FunctionHandleMetadata,
        function_name=name,
        function_type=api_pb2.Function.FUNCTION_TYPE_FUNCTION,
        definition_id=f"de-{function_id}",
        supported_input_formats=[api_pb2.DATA_FORMAT_PICKLE, CBOR],
        supported_output_formats=[CBOR],
    )


def _data(function: api_pb2.Function) -> api_pb2.FunctionData:
    ranked = api_pb2.FunctionData.RankedFunction(rank=0, function=function)
    return api_pb2.FunctionData(function_name=function.function_name, ranked_functions=[ranked])

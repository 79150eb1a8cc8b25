"""Server reflection, v1 and v1alpha: grpcio knows only v1alpha, grpcurl asks for v1. The messages are the same."""

from collections.abc import Iterable
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc  # type: ignore[import-untyped]

V1ALPHA = "grpc.reflection.v1alpha"
V1 = "grpc.reflection.v1"


def add(services: Iterable[str], server: grpc.aio.Server) -> None:
    """Lets clients ask `server` for the descriptors of `services` (full names) and of reflection itself."""
    _describe_v1()
    names = [*services, f"{V1}.ServerReflection", f"{V1ALPHA}.ServerReflection"]
    servicer: Any = reflection.aio.ReflectionServicer(names, pool=_Pool())
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    v1 = grpc.method_handlers_generic_handler(f"{V1}.ServerReflection", {"ServerReflectionInfo": handler})
    server.add_generic_rpc_handlers((v1,))


class _Pool:
    """The default pool, in which methods are found by name too: protobuf's own finds everything but them."""

    def FindFileContainingSymbol(self, name: str) -> Any:  # noqa: N802 - DescriptorPool's
        pool = descriptor_pool.Default()
        try:
            return pool.FindFileContainingSymbol(name)
        except KeyError:
            service, _, method = name.rpartition(".")
            found = pool.FindServiceByName(service)
            if method not in found.methods_by_name:
                raise
            return found.file

    def __getattr__(self, name: str) -> Any:
        return getattr(descriptor_pool.Default(), name)


def _describe_v1() -> None:
    """Adds v1alpha's file under the name of v1 to the pool: without it the v1 service would not describe itself."""
    pool = descriptor_pool.Default()
    name = "grpc/reflection/v1/reflection.proto"
    try:
        pool.FindFileByName(name)
        return
    except KeyError:
        pass
    file = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(file)
    file.name, file.package = name, V1
    old, new = f".{V1ALPHA}.", f".{V1}."
    for message in file.message_type:
        for field in message.field:
            if field.type_name:  # a scalar has none, not even an empty one
                field.type_name = field.type_name.replace(old, new)
    for method in file.service[0].method:
        method.input_type = method.input_type.replace(old, new)
        method.output_type = method.output_type.replace(old, new)
    pool.AddSerializedFile(file.SerializeToString())

/** Codes of errors that the service answers; docs/sync.md says when. They do not change. */
export const codes = {
    invalid: 1400,
    tooLarge: 1401,
    unknownObject: 1402,
    noPermission: 1403,
    wrongType: 1404,
    objectExists: 1405,
    unknownItem: 1406,
    itemExists: 1407,
    wrongRevision: 1408,
    badTTL: 1409,
    badIndex: 1410,
    badCursor: 1411,
    badKey: 1412,
    full: 1413,
    unknownOperation: 1414,
    badName: 1415,
    clientsOnly: 1416
};
/** An operation that the service refused, or that this client gave up. */
export class RoostError extends Error {
    /** One of {@link codes}, a code of the client protocol (100 to 112), or 0 for this client itself. */
    code;
    /** With codes.wrongRevision and codes.itemExists: the current revision. */
    revision;
    /** The service said that it may work later. */
    temporary;
    constructor(code, message, temporary = false) {
        super(message);
        this.name = 'RoostError';
        this.code = code;
        this.temporary = temporary;
        const revision = /revision (?:is )?(\d+)/.exec(message)?.[1];
        this.revision = code === codes.wrongRevision || code === codes.itemExists ? Number(revision) : undefined;
    }
}
/** Turns what the Centrifuge SDK rejects with into a RoostError. */
export function asRoostError(error) {
    if (error instanceof RoostError)
        return error;
    const { code, message, temporary } = error;
    return new RoostError(code ?? 0, message ?? String(error), temporary);
}
/** Tells whether an operation that was rejected so may have happened, or may succeed later: the connection was lost, or the service was away. */
export function mayRetry(error) {
    const { code, temporary } = error;
    return temporary === true || code === 100 || code === 111 || (code !== undefined && code > 0 && code < 100);
}
